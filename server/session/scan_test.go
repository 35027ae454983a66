package session_test

import (
	"testing"
	"time"

	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
)

// slowTree is a replica in which each View takes its time.
type slowTree struct {
	*bench
	now   time.Time
	takes time.Duration
	views int
}

func (s *slowTree) View(read func(*tree.Tree, *watch.Table)) {
	s.views++
	s.now = s.now.Add(s.takes)
	s.bench.View(read)
}

// TestLongScansAreRare: with very many containers and TTL znodes a look at all of them takes long,
// and is made less often in proportion.
func TestLongScansAreRare(t *testing.T) {
	t.Parallel()
	for takes, most := range map[time.Duration]int{0: 60, time.Millisecond: 60, 100 * time.Millisecond: 30, time.Second: 4} {
		s := &slowTree{bench: &bench{T: t, tree: tree.New()}, now: time.Unix(1e9, 0), takes: takes}
		k := session.New(session.Config{Replica: s, ContainerInterval: time.Minute, Now: func() time.Time { return s.now }})
		scans := 0
		for end := s.now.Add(time.Minute); s.now.Before(end); s.now = s.now.Add(time.Second) {
			s.views = 0
			k.Turn()
			scans += s.views - 1 // one is of the sessions
		}
		if scans > most || scans < most/2 {
			t.Errorf("a look takes %s: %d in a minute, want about %d", takes, scans, most)
		}
	}
}
