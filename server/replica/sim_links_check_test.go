package replica_test

import (
	"bytes"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// flow is what one node sends to another, over one link after another. A link promises: whatever it
// delivers is what was sent, in order and from the first item on, with nothing missing before a
// delivered item; and after an item of a link nothing of an earlier link is delivered.
type flow struct {
	up    bool
	begun int    // links
	sent  []item // what was sent and is not yet past for all spots
	at    []spot // the receiver's possible positions: several if the same was sent over several links
}

// item is something that was sent over the link with this number.
type item struct {
	link int
	m    *raftpb.Message // or
	kind byte
	b    []byte
}

// spot is the number of items of sent that are past.
type spot int

func (w *linked) flow(from, to uint64) *flow {
	a := arrow{from, to}
	if w.flows[a] == nil {
		w.flows[a] = &flow{at: []spot{0}}
	}
	return w.flows[a]
}

// begin begins a link.
func (f *flow) begin() {
	f.up = true
	f.begun++
}

// add records what is sent, if there is a link to send it on.
func (f *flow) add(x item) {
	if f.up {
		x.link = f.begun
		f.sent = append(f.sent, x)
	}
}

// take says whether x may be delivered now.
func (f *flow) take(x item) bool {
	var next []spot
	for _, p := range f.at {
		link := 0
		if p > 0 {
			link = f.sent[p-1].link
		}
		for i := int(p); i < len(f.sent); i++ {
			first := i == 0 || f.sent[i-1].link != f.sent[i].link
			if (i == int(p) || first && f.sent[i].link > link) && f.sent[i].same(x) && !slices.Contains(next, spot(i+1)) {
				next = append(next, spot(i+1))
			}
		}
	}
	if len(next) == 0 {
		return false
	}
	// The last item that is past stays, because it says which link it was sent over.
	if past := slices.Min(next) - 1; past > 0 {
		f.sent = slices.Clone(f.sent[past:])
		for i := range next {
			next[i] -= past
		}
	}
	f.at = next
	return true
}

func (x item) same(y item) bool {
	if x.m == nil || y.m == nil {
		return x.m == y.m && x.kind == y.kind && bytes.Equal(x.b, y.b)
	}
	a, b := x.m, y.m
	return a.GetType() == b.GetType() && a.GetFrom() == b.GetFrom() && a.GetTo() == b.GetTo() && a.GetTerm() == b.GetTerm() &&
		a.GetLogTerm() == b.GetLogTerm() && a.GetIndex() == b.GetIndex() && a.GetCommit() == b.GetCommit() && a.GetReject() == b.GetReject() &&
		a.GetRejectHint() == b.GetRejectHint() && bytes.Equal(a.GetContext(), b.GetContext()) &&
		slices.EqualFunc(a.GetEntries(), b.GetEntries(), func(a, b *raftpb.Entry) bool {
			return a.GetIndex() == b.GetIndex() && a.GetTerm() == b.GetTerm() && a.GetType() == b.GetType() && bytes.Equal(a.GetData(), b.GetData())
		})
}

// come delivers to a node what a link has brought.
func (w *linked) come(st *station, from uint64, x item) {
	if x.m == nil && x.kind == floodKind {
		return
	}
	for _, x := range w.lie(arrow{from, st.n.id}, x) {
		if !w.flow(from, st.n.id).take(x) {
			w.fail("a link brings to %d what %d has not sent, or not now: %+v", st.n.id, from, x)
			return
		}
		if x.m != nil {
			st.n.r.StepRaft(from, []*raftpb.Message{x.m})
		} else {
			st.n.takeForward(from, x.kind, x.b)
		}
	}
}

// lie returns what a mutant delivers instead of x.
func (w *linked) lie(a arrow, x item) []item {
	x.link = w.flow(a.from, a.to).begun
	held := w.held[a]
	switch {
	case w.mutant.is(swappedMessages) && held == nil && w.chance(1):
		w.held[a] = &x
		return nil
	case w.mutant.is(swappedMessages) && held != nil, w.mutant.is(lateMessage) && held != nil && held.link < x.link:
		delete(w.held, a)
		return []item{x, *held}
	case w.mutant.is(lateMessage):
		w.held[a] = &x // to be delivered once more
	case w.mutant.is(lostMessage) && w.chance(1):
		return nil
	case w.mutant.is(messageTwice) && w.chance(1):
		return []item{x, x}
	}
	return []item{x}
}
