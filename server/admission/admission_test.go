package admission

import (
	"slices"
	"testing"

	"coord/server/peer"
	"coord/server/replica"
)

// A log that ends before what its node has acknowledged is an older copy, unless a later leader has cut it.
func TestWhoIsBehind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what                       string
		match, index, term, leader uint64 // what the node has acknowledged is of term 2
		behind                     bool
	}{
		{"all that was acknowledged", 9, 9, 3, 3, false},
		{"more", 9, 10, 3, 3, false},
		{"less", 9, 8, 3, 3, true},
		{"less, of an earlier term", 9, 8, 2, 3, true},
		{"nothing", 9, 0, 0, 3, true},
		{"less, for another leads", 9, 8, 4, 3, false},
		{"all, since an earlier term", 9, 9, 2, 3, false},
		{"as long, in an earlier term", 9, 9, 1, 3, true},
		{"longer, in an earlier term", 9, 20, 1, 3, true},
	} {
		if got := isBehind(replica.Progress{Match: c.match, Term: 2}, c.leader, peer.Hello{Index: c.index, Term: c.term}); got != c.behind {
			t.Errorf("%s: %t", c.what, got)
		}
	}
}

// Only a node that has proved the secret, and is of this cluster, can say what a refusal means.
func TestFateOf(t *testing.T) {
	t.Parallel()
	ours, other := [16]byte{1}, [16]byte{2}
	for code := peer.CodeMalformed; code <= peer.CodeCertificate; code++ {
		want := None
		switch code {
		case peer.CodeRemoved:
			want = Removed
		case peer.CodeBoot, peer.CodeBehind:
			want = Lost
		}
		r := peer.Refusal{Code: code, Proven: true}
		r.Theirs.Cluster = ours
		if got := FateOf(&r, ours); got != want {
			t.Errorf("%v: %d", code, got)
		}
		mine, unproven, foreign := r, r, r
		mine.Ours, unproven.Proven, foreign.Theirs.Cluster = true, false, other
		for what, r := range map[string]*peer.Refusal{"this node's own": &mine, "not proven": &unproven, "of another cluster": &foreign} {
			if got := FateOf(r, ours); got != None {
				t.Errorf("%v, %s: %d", code, what, got)
			}
		}
	}
}

// TestGrant: which learners get a vote.
func TestGrant(t *testing.T) {
	t.Parallel()
	wants := func(ids ...uint64) (ready []Applicant) {
		for _, id := range ids {
			ready = append(ready, Applicant{Node: id})
		}
		return ready
	}
	inPlace := func(node uint64, old ...uint64) []Applicant {
		return []Applicant{{Node: node, Replaces: old}}
	}
	voters := func(ids ...uint64) []replica.Change {
		var changes []replica.Change
		for _, id := range ids {
			changes = append(changes, replica.Change{Node: id, To: replica.Voter})
		}
		return changes
	}
	for name, tt := range map[string]struct {
		members replica.Point
		ready   []Applicant
		want    []replica.Change
	}{
		"one and one: stays one":                    {replica.Point{Voters: []uint64{1}, Others: []uint64{2}}, wants(2), nil},
		"one and two: three":                        {replica.Point{Voters: []uint64{1}, Others: []uint64{2, 3}}, wants(2, 3), voters(2, 3)},
		"two and one: three":                        {replica.Point{Voters: []uint64{1, 2}, Others: []uint64{3}}, wants(3), voters(3)},
		"three and one: three":                      {replica.Point{Voters: []uint64{1, 2, 3}, Others: []uint64{4}}, wants(4), nil},
		"three and three: five":                     {replica.Point{Voters: []uint64{1, 2, 3}, Others: []uint64{4, 5, 6}}, wants(4, 5, 6), voters(4, 5)},
		"five and two: five":                        {replica.Point{Voters: []uint64{1, 2, 3, 4, 5}, Others: []uint64{6, 7}}, wants(6, 7), nil},
		"a change is under way":                     {replica.Point{Voters: []uint64{1, 2}, Outgoing: []uint64{1}, Others: []uint64{3}}, wants(3), nil},
		"nobody wants":                              {replica.Point{Voters: []uint64{1, 2}}, nil, nil},
		"in a voter's place":                        {replica.Point{Voters: []uint64{1, 2, 3}, Others: []uint64{4}}, inPlace(4, 2), append(voters(4), replica.Change{Node: 2, To: replica.Gone})},
		"in a learner's place":                      {replica.Point{Voters: []uint64{1, 2, 3}, Others: []uint64{4, 5}}, inPlace(5, 4), []replica.Change{{Node: 4, To: replica.Gone}}},
		"of a learner that came in a voter's place": {replica.Point{Voters: []uint64{1, 2, 3}, Others: []uint64{4, 5}}, inPlace(5, 4, 2), []replica.Change{{Node: 4, To: replica.Gone}}},
		"the same, the learner is gone":             {replica.Point{Voters: []uint64{1, 2, 3}, Others: []uint64{5}}, inPlace(5, 4, 2), append(voters(5), replica.Change{Node: 2, To: replica.Gone})},
		"in the place of no more":                   {replica.Point{Voters: []uint64{1, 2}, Others: []uint64{4}}, inPlace(4, 9), voters(4)},
	} {
		if got := Grant(&tt.members, tt.ready); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// TestPeers: which nodes a node links with.
func TestPeers(t *testing.T) {
	t.Parallel()
	knows := replica.Point{Voters: []uint64{3, 1}, Others: []uint64{4}, Outgoing: []uint64{1, 2}, Removed: []uint64{7}}
	for name, tt := range map[string]struct {
		members replica.Point
		leader  uint64
		lost    bool
		seen    []uint64
		want    []uint64
	}{
		"the members":                     {knows, 3, false, []uint64{5, 7}, []uint64{1, 2, 3, 4}},
		"a leader that is none yet":       {knows, 6, false, []uint64{5, 7}, []uint64{1, 2, 3, 4, 6}},
		"an election":                     {knows, 0, false, []uint64{5}, []uint64{1, 2, 3, 4}},
		"lost":                            {knows, 0, true, []uint64{5, 7, 1}, []uint64{1, 2, 3, 4, 5}},
		"who joins and knows nobody":      {replica.Point{}, 0, false, []uint64{2, 1}, []uint64{1, 2}},
		"who joins and has heard of none": {replica.Point{}, 0, true, nil, nil},
	} {
		if got := Peers(&replica.Status{Members: tt.members, Leader: tt.leader}, tt.lost, tt.seen); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
