package wal

import (
	"reflect"

	tidwall "github.com/tidwall/wal"
)

// tidwall keeps the bytes of the segment it writes in a slice that grows from nothing, a quarter at a time, and is
// garbage when the segment is full: five bytes are copied for each one that is logged. It has no option for that, so
// the slice of the full segment is handed on to the next one, past tidwall, whose name for it is not exported. With a
// tidwall that has it no more nothing is handed on: the log is as slow as it was, and TestTheBufferIsHandedOn fails.

// handOn gives a segment the buffer of another, whose bytes nobody needs any more, unless it is longer than most.
func handOn(from, to *[]byte, most int) {
	if from == nil || to == nil || cap(*from) > most {
		return
	}
	*from, *to = nil, append((*from)[:0], *to...)
}

// bufferOf finds the buffer of the segment so many before the last one. nil: there is none.
func bufferOf(file *tidwall.Log, before int) *[]byte {
	segments := reflect.ValueOf(file).Elem().FieldByName("segments")
	if segments.Kind() != reflect.Slice || segments.Len() <= before {
		return nil
	}
	segment := reflect.Indirect(segments.Index(segments.Len() - 1 - before))
	if segment.Kind() != reflect.Struct || !segment.CanAddr() {
		return nil
	}
	buffer := segment.FieldByName("ebuf")
	if !buffer.IsValid() || buffer.Type() != reflect.TypeFor[[]byte]() {
		return nil
	}
	return (*[]byte)(buffer.Addr().UnsafePointer())
}
