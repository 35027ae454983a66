package session_test

import (
	"testing"
	"time"

	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
)

// follower is a node that sees a new leader in each round, or never.
type follower struct {
	tree  *tree.Tree
	term  uint64
	step  uint64
	bytes int
}

func (f *follower) Leader() (id, term uint64, self bool) {
	f.term += f.step
	return 1, f.term, false
}
func (f *follower) Tell(_ uint64, b []byte)                                       { f.bytes += len(b) }
func (f *follower) Links() uint64                                                 { return 0 }
func (f *follower) View(read func(*tree.Tree, *watch.Table))                      { read(f.tree, nil) }
func (f *follower) Decide(*tree.Txn, func(tree.Result, *tree.Tree, *watch.Table)) {}

// BenchmarkRound is one round of a follower with 10,000 kept sessions. With a ttl of 30 s one of 39
// rounds reports them all, and in the others nothing is due.
func BenchmarkRound(b *testing.B) {
	for name, step := range map[string]uint64{"report": 1, "nothing due": 0} {
		b.Run(name, func(b *testing.B) {
			f := &follower{tree: tree.New(), step: step}
			k := session.New(session.Config{Replica: f, Ensemble: f})
			for id := int64(1); id <= 10_000; id++ {
				f.tree.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id << 16, TimeoutMS: 30_000, Password: make([]byte, 16)})
				k.Attach(id<<16, 0, 1000*time.Hour, true)
			}
			session.Round(k)
			f.bytes = 0
			for b.Loop() {
				session.Round(k)
			}
			b.ReportMetric(float64(f.bytes)/float64(b.N), "sent-B/op")
		})
	}
}
