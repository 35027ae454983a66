package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing/synctest"
	"time"

	"coord/server/admission"
	"coord/server/peer"
	"coord/server/replica"
	"coord/tree/znode"
)

// A blank node asks members to be taken in, by requests of package peer, until one answers that it
// is a member. The leader takes it in by a change of members, as in package server. A request may
// be carried out and its answer lost, and the node may crash before it learns of the outcome.

// applicant is a node that has asked the leader for something.
type applicant struct {
	replaces []uint64
	at       time.Duration
}

// question is what a node asks another one.
type question struct {
	number   uint64 // unique
	what     byte
	replaces []uint64
}

// What is asked: to be taken in or, for a learner, to get a vote, replacing other nodes; or who the
// members are.
const (
	askIn      = 'J'
	askMembers = 'M'
)

func (q question) body() []byte {
	return appendIDs(append(binary.BigEndian.AppendUint64(nil, q.number), q.what), q.replaces)
}

// inquiry is a question under way.
type inquiry struct {
	question
	by      uint64
	handled bool
	answer  []byte
}

// The answers: which node to ask instead; that the node is a member, and who the others are; only
// who they are.
const (
	answerLeader  = 'L'
	answerTaken   = 'T'
	answerMembers = 'M'
)

const (
	joinRetry = 500 * time.Millisecond
	maxHops   = 3
)

// join makes a blank node ask.
func (w *linked) join(n *simNode) bool {
	n.joining = true
	n.boot++
	w.note("%d wants to join in the place of %d", n.id, n.replaces)
	w.open(n).askToJoin(0, 0)
	return true
}

// askToJoin asks one node, then the one that it names as the leader; 0: any node.
func (st *station) askToJoin(to uint64, hops int) {
	w, n := st.w, st.n
	if to == 0 {
		to = w.door(n)
	}
	w.ask(st, to, askIn, func(b []byte, err error) {
		if !n.joining {
			return
		}
		if !w.calm && w.chance(10) { // it crashes, and may be a member or not
			w.seen["joiners that crashed"]++
			w.crashed(n)
			w.after(w.between(10*time.Millisecond, time.Second), func() { w.join(n) })
			return
		}
		switch {
		case err == nil && b[0] == answerTaken:
			w.seen["learners"]++
			st.told = ids(b[1:])
			w.after(w.between(0, 20*time.Millisecond), func() {
				if !st.isDead() {
					n.joining = false
					n.start()
				}
			})
		case err == nil && hops < maxHops:
			st.askToJoin(ids(b[1:])[0], hops+1)
		default:
			w.after(w.between(joinRetry/2, joinRetry), func() {
				if !st.isDead() {
					st.askToJoin(0, 0)
				}
			})
		}
	})
}

// door returns another node that n could know of.
func (w *linked) door(n *simNode) uint64 {
	var doors []uint64
	for _, o := range w.nodes {
		if o != n && !o.gone && !o.joining {
			doors = append(doors, o.id)
		}
	}
	return doors[w.rnd.IntN(len(doors))]
}

// ask asks a node. then gets the answer, unless the asking node is down by then.
func (w *linked) ask(st *station, to uint64, what byte, then func(b []byte, err error)) {
	w.seen["requests"]++
	w.asked++
	q := &inquiry{question: question{uint64(w.asked), what, st.n.replaces}, by: st.n.id}
	w.mu.Lock()
	w.inquiries[q.number] = q
	w.mu.Unlock()
	if to == st.n.id {
		w.after(joinRetry, func() { then(nil, errors.New("it is itself")) })
		return
	}
	go func() { // ends with the station
		_, b, err := st.links.Request(st.ctx, addressOf(to), q.body())
		w.put(st, deed{st.n.id, to, deedAnswer, int(q.number), func() { w.answered(st, q, b, err, then) }})
	}()
	synctest.Wait()
}

// answered checks that an answer is the one that was given to this question.
func (w *linked) answered(st *station, q *inquiry, b []byte, err error, then func([]byte, error)) {
	if st.isDead() {
		return
	}
	w.mu.Lock()
	handled, answer := q.handled, q.answer
	w.mu.Unlock()
	var told *peer.RemoteError
	switch {
	case err == nil && !bytes.Equal(b, answer):
		w.fail("question %d of %d is answered with %x, and it was %x", q.number, q.by, b, answer)
	case err != nil && !errors.As(err, &told):
		w.seen["requests without an answer"]++
		if handled {
			w.seen["answers lost"]++
		}
	}
	then(b, err)
}

// Request answers a request of another node.
func (st *station) Request(ctx context.Context, theirs peer.Hello, body []byte) ([]byte, error) {
	w := st.w
	b, err := st.answerTo(ctx, theirs, body)
	switch {
	case err != nil:
	case w.mutant.is(requestTwice):
		return st.answerTo(ctx, theirs, body)
	case w.mutant.is(otherAnswer):
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.lastAnswer == nil {
			w.lastAnswer = b
		}
		b, w.lastAnswer = w.lastAnswer, b
	}
	return b, err
}

func (st *station) answerTo(ctx context.Context, theirs peer.Hello, body []byte) ([]byte, error) {
	w := st.w
	q, err := w.comesOnce(st, theirs.Node, body)
	if err != nil {
		return nil, err
	}
	r := st.replica.Load()
	if r == nil {
		return nil, errors.New("this node is no member yet")
	}
	b := []byte{answerLeader}
	switch leader := r.Status().Leader; {
	case q.what == askMembers:
		m := r.Status().Members
		b = appendIDs([]byte{answerMembers}, admission.Everyone(&m))
	case leader == 0:
		return nil, errors.New("there is no leader")
	case leader == st.n.id:
		w.mu.Lock()
		st.applicants[theirs.Node] = applicant{q.replaces, time.Since(w.began)}
		w.mu.Unlock()
		st.put(theirs.Node, deedRequest, func() {}) // the loop may have been asked for a change
		taken, code := st.takeIn(ctx, r, theirs.Node)
		if code != znode.OK {
			return nil, fmt.Errorf("it cannot be taken in now: %w", code)
		}
		if !taken {
			st.put(theirs.Node, deedRequest, func() { w.seen["members that asked again"]++ })
		}
		m := r.Status().Members
		b = appendIDs([]byte{answerTaken}, admission.Everyone(&m))
	default:
		b = appendIDs(b, []uint64{leader})
	}
	w.mu.Lock()
	q.answer = b
	w.mu.Unlock()
	return b, nil
}

func (st *station) takeIn(ctx context.Context, r *replica.Replica, node uint64) (bool, znode.Code) {
	if st.w.mutant.is(takenAgain) {
		return true, admission.Change(ctx, r, replica.Change{Node: node, To: replica.Learner})
	}
	return admission.TakeIn(ctx, r, node)
}

// comesOnce checks that a request was sent by that node, byte for byte, and is handled once.
func (w *linked) comesOnce(st *station, from uint64, body []byte) (*inquiry, error) {
	q, what := w.inquiryOf(from, body)
	w.put(st, deed{st.n.id, from, deedRequest, 0, func() { w.mayCut(from, st.n.id) }})
	if q == nil {
		w.put(st, deed{st.n.id, from, deedRequest, 0, func() { w.fail("%d is asked %x by %d, %s", st.n.id, body, from, what) }})
		return nil, errors.New(what)
	}
	return q, nil
}

// mayCut sometimes breaks the connection of a request while it is being handled.
func (w *linked) mayCut(from, to uint64) {
	if w.calm || !w.chance(10) {
		return
	}
	for _, c := range w.live() {
		if c.purpose == requestConn && c.ends[0].node() == from && c.ends[1].node() == to {
			c.breakUp()
		}
	}
}

func (w *linked) inquiryOf(from uint64, body []byte) (q *inquiry, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(body) >= 8 {
		q = w.inquiries[binary.BigEndian.Uint64(body)]
	}
	switch {
	case q == nil || q.by != from || !bytes.Equal(q.body(), body):
		return nil, "which it has not asked"
	case q.handled:
		return nil, "for the second time"
	}
	q.handled = true
	return q, ""
}

func appendIDs(b []byte, ids []uint64) []byte {
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return b
}

func ids(b []byte) (ids []uint64) {
	for ; len(b) >= 8; b = b[8:] {
		ids = append(ids, binary.BigEndian.Uint64(b))
	}
	return ids
}
