package replica_test

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"coord/tree"
)

func newEntry(index, term uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: data}
}

// history is the result of a log, computed without a replica.
type history struct {
	entries []*raftpb.Entry
	tree    *tree.Tree
	txns    []applied
}

// applied is one txn of the log.
type applied struct {
	kind   tree.Kind
	path   string
	tag    string // the data of the last op
	term   uint64
	seq    uint64
	timeMS int64
	result tree.Result
}

// replay applies entries, which begin at index 2, to a new state. They must follow each other, and
// so must the numbers of the txns of a term, and their stamps.
func replay(t testing.TB, entries []*raftpb.Entry) *history {
	t.Helper()
	h := &history{entries: entries, tree: tree.New()}
	last := applied{term: 1}
	for i, e := range entries {
		if e.GetIndex() != uint64(i+2) || e.GetTerm() < last.term {
			t.Fatalf("entry %d of term %d in place %d, behind term %d", e.GetIndex(), e.GetTerm(), i+2, last.term)
		}
		if e.GetTerm() > last.term {
			last.term, last.seq = e.GetTerm(), 0
		}
		if len(e.GetData()) == 0 {
			continue
		}
		err := tree.Decode(e.GetData(), func(x *tree.Txn) {
			r, _ := h.tree.Apply(e.GetTerm(), x)
			a := applied{kind: x.Kind, path: x.Path, tag: tagOf(x), term: e.GetTerm(), seq: x.Seq, timeMS: x.TimeMS, result: r}
			if x.Origin == self && (a.seq != last.seq+1 || a.timeMS < last.timeMS) {
				t.Fatalf("txn %d stamped %d in entry %d follows txn %d stamped %d", a.seq, a.timeMS, e.GetIndex(), last.seq, last.timeMS)
			}
			last = a
			h.txns = append(h.txns, a)
		})
		if err != nil {
			t.Fatalf("entry %d: %v", e.GetIndex(), err)
		}
	}
	return h
}

func tagOf(x *tree.Txn) string {
	if n := len(x.Ops); n > 0 {
		return string(x.Ops[n-1].Data)
	}
	return string(x.Data)
}
