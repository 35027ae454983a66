package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// op is an operation of a load.
type op uint8

const (
	opGet op = iota
	opSet
	opCreate
	opDelete
	opExists
	opChildren
	opMulti
	opSync
	numOps
)

var opNames = [numOps]string{"get", "set", "create", "delete", "exists", "children", "multi", "sync"}

func (o op) String() string { return opNames[o] }

// OpNames are the operations that a Mix may name.
func OpNames() []string { return opNames[:] }

// Mix is the share of each operation.
type Mix [numOps]int

// mostShares is the largest sum of the shares of a mix.
const mostShares = 10_000

// ParseMix parses a mix such as set=30,get=70; the default share is 1.
func ParseMix(s string) (m Mix, err error) {
	for part := range strings.SplitSeq(s, ",") {
		name, share, given := strings.Cut(strings.TrimSpace(part), "=")
		o := op(0)
		for o < numOps && opNames[o] != name {
			o++
		}
		n := 1
		if given {
			n, err = strconv.Atoi(share)
		}
		if o == numOps || err != nil || n < 0 || n > mostShares {
			return Mix{}, fmt.Errorf("%q is not OP=SHARE; OP is one of %s", part, strings.Join(opNames[:], ", "))
		}
		m[o] += n
	}
	return m, m.validate()
}

func (m Mix) sum() (n int) {
	for _, share := range m {
		n += share
	}
	return n
}

func (m Mix) validate() error {
	switch sum := m.sum(); {
	case sum == 0 || sum > mostShares:
		return fmt.Errorf("the shares of a mix add up to %d, expected 1 to %d", sum, mostShares)
	case m[opDelete] > m[opCreate]:
		return fmt.Errorf("a mix deletes only what it has created: delete=%d needs create to be at least as large", m[opDelete])
	}
	return nil
}

func (m Mix) String() string {
	var parts []string
	for o, share := range m {
		if share > 0 {
			parts = append(parts, fmt.Sprintf("%v=%d", op(o), share))
		}
	}
	return strings.Join(parts, ",")
}

// The paths of a run, below its root:
//
//	/d00042          a parent of keysADir keys
//	/d00042/k07      key 4207
//	/c00003          the parent of what client 3 creates
//	/c00003/n00000012, or /c00003/s0000000012 if they are sequential
func (l *Load) dirPath(i int) string    { return fmt.Sprintf("%s/d%05d", l.Path, i) }
func (l *Load) parentPath(i int) string { return fmt.Sprintf("%s/c%05d", l.Path, i) }
func (l *Load) keyPath(i int) string {
	return fmt.Sprintf("%s/d%05d/k%02d", l.Path, i/keysADir, i%keysADir)
}

func (l *Load) createdPath(client, i int) string {
	if l.Sequential {
		return fmt.Sprintf("%s/c%05d/s%010d", l.Path, client, i)
	}
	return fmt.Sprintf("%s/c%05d/n%08d", l.Path, client, i)
}

func (l *Load) dirs() int { return (l.Keys + keysADir - 1) / keysADir }

// value is the value that is written: bytes that do not compress.
func (l *Load) value() []byte {
	b := make([]byte, l.Size)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b) // never fails
	return b
}

// template is the frame of a request; the parts that differ between requests are
// patched in.
type template struct {
	frame []byte
	at    []int // offsets of the digits: of a key's parent, or of a created znode's name
}

// The digits of a key: 5 for its parent, 2 for itself, with "/k" between them.
const (
	dirDigits = 5
	keyDigits = 2
	keyAfter  = dirDigits + len("/k")
)

func (l *Load) templates(client int) (all [numOps]template) {
	value := l.value()
	key, dir := l.keyPath(0), l.dirPath(0)
	created := zkproto.Part{Op: zkproto.OpCreate, Path: l.createdPath(client, 0), Data: value, ACL: znode.OpenACL}
	if l.Ephemeral {
		created.Flags |= int32(znode.Ephemeral)
	}
	if l.Sequential {
		created.Flags |= int32(znode.PersistentSequential)
		created.Path = l.parentPath(client) + "/s"
	}
	digits := len(l.Path) + len("/d")
	for o, part := range [numOps]zkproto.Part{
		opGet:      {Op: zkproto.OpGetData, Path: key},
		opSet:      {Op: zkproto.OpSetData, Path: key, Data: value, Version: zkproto.AnyVersion},
		opCreate:   created,
		opDelete:   {Op: zkproto.OpDelete, Path: l.createdPath(client, 0), Version: zkproto.AnyVersion},
		opExists:   {Op: zkproto.OpExists, Path: key},
		opChildren: {Op: zkproto.OpGetChildren2, Path: dir},
		opMulti:    {Op: zkproto.OpMulti},
		opSync:     {Op: zkproto.OpSync, Path: key},
	} {
		if l.Mix[o] == 0 {
			continue // with large values the unused templates of each client would take much memory
		}
		req := zkproto.Request{Part: part}
		if op(o) == opMulti {
			for range l.Multi {
				req.Ops = append(req.Ops, zkproto.Part{Op: zkproto.OpSetData, Path: key, Data: value, Version: zkproto.AnyVersion})
			}
		}
		t := template{frame: zkproto.AppendRequest(nil, &req)}
		const body = 4 + 4 + 4 // after the length, the xid and the op
		switch op(o) {
		case opCreate, opDelete: // the digits at the end of the path
			t.at = []int{body + 4 + len(l.parentPath(client)) + len("/n")}
		case opMulti:
			one := (len(t.frame) - body - partHead) / l.Multi
			for i := range l.Multi {
				t.at = append(t.at, body+i*one+partHead+4+digits)
			}
		default:
			t.at = []int{body + 4 + digits}
		}
		all[o] = t
	}
	return all
}

// partHead is the length of the header before each part of a multi, and after the
// last one.
const partHead = 4 + 1 + 4

// xidAt is the offset of the xid in a frame.
const xidAt = 4

func putXid(frame []byte, xid int32) { binary.BigEndian.PutUint32(frame[xidAt:], uint32(xid)) }

// putDigits fills b with the decimal digits of n.
func putDigits(b []byte, n uint32) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// putKey writes the digits of a key, or only those of its parent.
func putKey(b []byte, key uint32, alone bool) {
	putDigits(b[:dirDigits], key/keysADir)
	if !alone {
		putDigits(b[keyAfter:keyAfter+keyDigits], key%keysADir)
	}
}
