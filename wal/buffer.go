package wal

import (
	"reflect"

	tidwall "github.com/tidwall/wal"
)

// tidwall keeps the bytes of the segment it writes in a slice that grows from nothing, a quarter at a time, and
// becomes garbage when the segment is full: five bytes are copied for each one that is logged. tidwall has no option
// to change that, so this package hands the slice of the full segment on to the next segment, through a field of
// tidwall that is not exported. If a version of tidwall no longer has that field, nothing is handed on: the log is as
// slow as before, and TestTheBufferIsHandedOn fails.

// handOn gives a segment the buffer of another one that no longer needs it, unless the buffer is longer than
// most.
func handOn(from, to *[]byte, most int) {
	if from == nil || to == nil || cap(*from) > most {
		return
	}
	*from, *to = nil, append((*from)[:0], *to...)
}

// bufferOf finds the buffer of the segment that lies this many segments before the last one. nil:
// there is none.
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
