package snapshot

import (
	"encoding/binary"
	"errors"
)

// maxNesting is how deep arrays and maps may be nested.
const maxNesting = 16

var (
	errCutValue  = errors.New("a value is longer than the frame")
	errTooDeep   = errors.New("values are nested too deeply")
	errBadOpcode = errors.New("a byte is not the beginning of a msgpack value")
)

// checkStructure walks over msgpack values without decoding them, and fails unless they fill b
// exactly. After it, no length or count in b is larger than b, and no nesting is deeper than
// maxNesting. So the msgpack package, which allocates by declared lengths and recurses into nested
// values, is safe on what checkStructure accepts.
func checkStructure(b []byte) error {
	var open [maxNesting]uint64 // values still missing in each open array or map
	depth := 0
	for i := 0; i < len(b) || depth > 0; {
		if i == len(b) {
			return errCutValue
		}
		size, inner, ok := uint64(1), uint64(0), true
		if c := b[i]; c >= 0x80 { // most values are small numbers
			size, inner, ok = valueHead(b[i:])
		}
		if !ok {
			return errBadOpcode
		}
		left := uint64(len(b) - i)
		if size > left || inner > left-size {
			return errCutValue
		}
		i += int(size)
		if inner > 0 {
			if depth == maxNesting {
				return errTooDeep
			}
			open[depth] = inner
			depth++
			continue
		}
		for depth > 0 {
			if open[depth-1]--; open[depth-1] > 0 {
				break
			}
			depth--
		}
	}
	return nil
}

// valueHead returns how many bytes the value at b[0] has, without its inner values, and how many
// inner values it has. If its length itself is cut off, size is larger than b.
func valueHead(b []byte) (size, inner uint64, ok bool) {
	be := binary.BigEndian
	c := b[0]
	switch {
	case c <= 0x7f || c >= 0xe0: // small integers
		return 1, 0, true
	case c <= 0x8f:
		return 1, 2 * uint64(c&0x0f), true
	case c <= 0x9f:
		return 1, uint64(c & 0x0f), true
	case c <= 0xbf:
		return 1 + uint64(c&0x1f), 0, true
	}
	var width int // bytes of the length
	var fixed uint64
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return 1, 0, true
	case 0xc4, 0xd9: // bin8, str8
		width, fixed = 1, 2
	case 0xc5, 0xda:
		width, fixed = 2, 3
	case 0xc6, 0xdb:
		width, fixed = 4, 5
	case 0xc7: // ext8
		width, fixed = 1, 3
	case 0xc8:
		width, fixed = 2, 4
	case 0xc9:
		width, fixed = 4, 6
	case 0xcc, 0xd0: // uint8, int8
		return 2, 0, true
	case 0xcd, 0xd1:
		return 3, 0, true
	case 0xca, 0xce, 0xd2: // also float32
		return 5, 0, true
	case 0xcb, 0xcf, 0xd3:
		return 9, 0, true
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext
		return 2 + 1<<(c-0xd4), 0, true
	case 0xdc, 0xde: // array16, map16
		width = 2
	case 0xdd, 0xdf:
		width = 4
	default:
		return 0, 0, false
	}
	if len(b) < 1+width {
		return uint64(len(b)) + 1, 0, true
	}
	var n uint64
	switch width {
	case 1:
		n = uint64(b[1])
	case 2:
		n = uint64(be.Uint16(b[1:]))
	case 4:
		n = uint64(be.Uint32(b[1:]))
	}
	switch c {
	case 0xdc, 0xdd:
		return 1 + uint64(width), n, true
	case 0xde, 0xdf:
		return 1 + uint64(width), 2 * n, true
	}
	return fixed + n, 0, true
}
