package replica

import "coord/tree"

// ProposeInTerm puts a submission where those stand that were proposed in a term
// and are not in the log yet.
func ProposeInTerm(r *Replica, term uint64, done Done) {
	s := submission{&tree.Txn{}, done, 100}
	r.pending.Add(s.size)
	r.tasks.push(func() { r.applier.waiting = append(r.applier.waiting, proposed{term, []submission{s}}) })
}

// Retained is how many items of past work the queues and tables of a replica at
// rest hold on to, and how far the places for them exceed what is kept.
func Retained(r *Replica) (n int) {
	n += len(r.applier.waiting) + len(r.applier.reads) + len(r.core.batch) + len(r.core.reads) + len(r.core.asked)
	for _, s := range r.core.subs {
		if s.txn != nil {
			n++
		}
	}
	for _, used := range []int{cap(r.submitted.mu.items), cap(r.barriers.mu.items), cap(r.tasks.mu.items), cap(r.events.mu.items)} {
		n += max(0, used-2*4096)
	}
	return n
}
