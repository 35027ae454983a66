package replica_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"coord/server/replica"
	"coord/tree"
)

func digestAt(index, n uint64) replica.DigestAt {
	return replica.DigestAt{Index: index, Digest: tree.Digest{Hi: n, Lo: ^n}}
}

func TestDiffers(t *testing.T) {
	t.Parallel()
	list := func(at ...uint64) (l []replica.DigestAt) { // index, digest, …
		for i := 0; i < len(at); i += 2 {
			l = append(l, digestAt(at[i], at[i+1]))
		}
		return l
	}
	for name, c := range map[string]struct {
		ours, theirs []replica.DigestAt
		at           uint64 // 0: they do not differ
	}{
		"nothing":           {nil, nil, 0},
		"nothing of theirs": {list(1, 1), nil, 0},
		"none in common":    {list(1, 1, 3, 3), list(2, 2, 4, 4), 0},
		"equal":             {list(1, 1, 3, 3), list(1, 1, 2, 9, 3, 3), 0},
		"the first":         {list(1, 1, 3, 3), list(1, 2, 3, 3), 1},
		"the last":          {list(1, 1, 3, 3, 7, 7), list(3, 3, 5, 5, 7, 8), 7},
		"the first of two":  {list(1, 1, 3, 3, 7, 7), list(3, 4, 7, 8), 3},
	} {
		for range 2 {
			our, their, differs := replica.Differs(c.ours, c.theirs)
			if differs != (c.at != 0) || our.Index != c.at || their.Index != c.at || differs && our.Digest == their.Digest {
				t.Errorf("%s: %v, %v, %t", name, our, their, differs)
			}
			c.ours, c.theirs = c.theirs, c.ours
		}
	}
}

func TestDigestsTravel(t *testing.T) {
	t.Parallel()
	var list []replica.DigestAt
	for n := range replica.MaxDigests {
		list = append(list, digestAt(uint64(n*n+1), uint64(n)<<40))
		b := replica.AppendDigests([]byte("before"), list)
		if got, err := replica.ParseDigests(b[6:]); err != nil || !slices.Equal(got, list) {
			t.Errorf("%d: %v, %v", n, got, err)
		}
	}
	whole := replica.AppendDigests(nil, list)
	for name, b := range map[string][]byte{
		"cut":          whole[:len(whole)-1],
		"too many":     replica.AppendDigests(whole, []replica.DigestAt{digestAt(1<<40, 1)}),
		"twice":        replica.AppendDigests(nil, []replica.DigestAt{digestAt(5, 1), digestAt(5, 1)}),
		"not in order": replica.AppendDigests(nil, []replica.DigestAt{digestAt(5, 1), digestAt(4, 1)}),
	} {
		if got, err := replica.ParseDigests(b); err == nil || got != nil {
			t.Errorf("%s: taken as %d digests", name, len(got))
		}
	}
	if got, err := replica.ParseDigests(nil); err != nil || got != nil {
		t.Errorf("none: %v, %v", got, err)
	}
}

func FuzzParseDigests(f *testing.F) {
	f.Add([]byte{})
	f.Add(replica.AppendDigests(nil, []replica.DigestAt{digestAt(1, 2), digestAt(1024, 3)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := replica.ParseDigests(b); err == nil && (len(list) > replica.MaxDigests || !bytes.Equal(replica.AppendDigests(nil, list), b)) {
			t.Errorf("%x is read as %v", b, list)
		}
	})
}

// The newest 64 digests of a long log are kept, and the present digest is returned too.
func TestTheNewestDigestsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		const last = 70_000
		for i := uint64(2); i <= last; i++ {
			m.log.write(record{entry: newEntry(i, 1, nil)})
		}
		n := m.ready()
		n.must(create("/a"))
		list := n.Digests()
		if len(list) != replica.MaxDigests {
			t.Fatalf("%d digests", len(list))
		}
		for i, at := range list[:64] {
			if want := uint64(last/1024-63+i) * 1024; at.Index != want || at.Digest != tree.New().Digest() {
				t.Errorf("%d is %+v, want entry %d", i, at, want)
			}
		}
		if now := list[64]; now.Index != last+2 || now.Digest != n.digest() { // the entries of the election and of the txn
			t.Errorf("now %+v", now)
		}
		n.stop()
	})
}

// Equal nodes have equal digests wherever they can be compared; a node that has applied something
// of its own is detected.
func TestDigestsOfNodesAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.at(1).must(create("/a"))
		for i := range 1100 {
			c.at(1).must(set("/a", strconv.Itoa(i)))
		}
		synctest.Wait()
		of := map[uint64][]replica.DigestAt{}
		for id, n := range c.nodes {
			of[id] = n.Digests()
			if fmt.Sprint(of[id]) != fmt.Sprint(c.at(1).Digests()) || len(of[id]) != 2 || of[id][0].Index != 1024 {
				t.Errorf("node %d has %v", id, of[id])
			}
		}
		n := c.at(2)
		replica.ApplyOwn(n.Replica, 1)
		n.must(set("/a", "more"))
		synctest.Wait()
		our, their, differs := replica.Differs(n.Digests(), c.at(3).Digests())
		if !differs || our.Index != their.Index || our.Index <= 1100 {
			t.Errorf("%v, %v, %t", our, their, differs)
		}
		if _, _, differs := replica.Differs(c.at(1).Digests(), c.at(3).Digests()); differs {
			t.Error("two good nodes differ")
		}
		c.stop()
	})
}
