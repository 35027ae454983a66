package replica

import (
	"encoding/binary"

	"coord/tree"
	"coord/tree/znode"
)

// Kinds of the messages that replicas forward to each other; all numbers are little
// endian. Kinds up to LastKind are the replica's; it ignores those that it does not know.
//
//	txns     term 8 | stream 8 | first 8 | count 8 | batch (package tree)
//	         count txns numbered from first on; stream is the number of the first
//	         txn of the stream
//	refused  stream 8 | first 8 | code 4
//	         nothing of the stream from first on is or will be proposed
//	hold     term 8 | 1: forward nothing, 0: go on
//	         the leader is about to hand over
//	held     term 8
//	         no forwarded txn of the sender waits for its answer, and no more will come
const (
	kindTxns    byte = 1
	kindRefused byte = 2
	kindHold    byte = 3
	kindHeld    byte = 4

	LastKind byte = 15
)

const (
	txnsHeaderBytes  = 32
	refusedBytes     = 20
	holdBytes        = 9
	heldBytes        = 8
	maxInboxBytes    = MaxPendingBytes
	maxForwardedTxns = 1 << 20
)

// inflow is a stream as its leader sees it. It outlives the leader's link to the origin: the origin
// sends over another link.
type inflow struct {
	stream  uint64
	next    uint64 // the number that must come next
	refused bool
	first   uint64 // if refused: the first number that is
	code    znode.Code
}

// forwarded is a part of a stream that waits to be proposed.
type forwarded struct {
	piece
	batch []byte
}

// piece is a run of consecutive txns of a stream.
type piece struct {
	from  uint64
	in    *inflow
	first uint64
}

// forward sends the waiting submissions to the leader.
func (r *Replica) forward(lead uint64) {
	c := &r.core
	for ; c.next < len(c.subs); c.next++ {
		s, ok := r.nextSubmission()
		if !ok {
			continue
		}
		if c.enc.Count() > 0 && int64(c.enc.Len())+s.size > MaxBatchBytes {
			r.forwardBatch(lead)
		}
		c.add(s, r.cfg.NodeID)
	}
	r.forwardBatch(lead)
}

func (r *Replica) forwardBatch(lead uint64) {
	c := &r.core
	if c.enc.Count() == 0 {
		return
	}
	subs := c.takeBatch()
	first := subs[0].txn.Seq
	if c.stream == 0 {
		c.stream = first
	}
	b := make([]byte, 0, txnsHeaderBytes+c.enc.Len())
	for _, x := range []uint64{c.reign.term, c.stream, first, uint64(len(subs))} {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	r.awaitAnswers(subs)
	r.cfg.Peers.Forward(lead, kindTxns, c.enc.AppendBatch(b, 0))
}

// takeForward takes a part of a stream if it is contiguous and meant for this leader.
func (r *Replica) takeForward(from uint64, b []byte) {
	c := &r.core
	if len(b) < txnsHeaderBytes {
		return
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	term, stream, first, count := word(0), word(1), word(2), word(3)
	in := c.in[from]
	if in == nil || in.stream != stream {
		in = &inflow{stream: stream, next: stream}
	}
	switch {
	case in.refused:
		return // the origin has been told
	case term != c.reign.term, c.reign.lead != r.cfg.NodeID, first != in.next, count > maxForwardedTxns:
		r.refuseStream(from, in, first, znode.ErrNoLeader)
	case c.inboxBytes+int64(len(b)) > maxInboxBytes:
		r.refuseStream(from, in, first, znode.ErrThrottledOp)
	default:
		in.next += count
		c.inbox = append(c.inbox, forwarded{piece{from, in, first}, b[txnsHeaderBytes:]})
		c.inboxBytes += int64(len(b))
	}
	c.in[from] = in
}

// proposeForwarded puts the txns in the inbox into entries.
func (r *Replica) proposeForwarded(room int64) {
	c := &r.core
	n := 0
	for ; n < len(c.inbox) && room > 0; n++ {
		f := &c.inbox[n]
		c.inboxBytes -= txnsHeaderBytes + int64(len(f.batch))
		seq := f.first
		err := tree.Decode(f.batch, func(x *tree.Txn) {
			switch {
			case f.in.refused:
				return
			case x.Origin != f.from || x.Seq != seq:
				r.refuseStream(f.from, f.in, seq, znode.ErrInternal)
				return
			case r.full.Load() && grows(&x.Op, x.Ops):
				r.refuseStream(f.from, f.in, seq, znode.ErrNoSpace)
				return
			}
			size := sizeOf(x)
			if c.enc.Count() > 0 && int64(c.enc.Len())+size > MaxBatchBytes {
				r.proposeBatch()
				if f.in.refused {
					return
				}
			}
			if x.Kind == tree.KindSession {
				c.stampSession(x)
			}
			c.enc.Add(x)
			if k := len(c.guests); k == 0 || c.guests[k-1].in != f.in {
				c.guests = append(c.guests, piece{f.from, f.in, seq})
			}
			seq++
			room -= size
		})
		if err != nil && !f.in.refused {
			r.log.Error().Err(err).Str("peer", nodeString(f.from)).Msg("cannot decode forwarded txns")
			r.refuseStream(f.from, f.in, seq, znode.ErrInternal)
		}
	}
	clear(c.inbox[:n])
	if c.inbox = c.inbox[n:]; len(c.inbox) == 0 {
		c.inbox = nil
	}
}

// refuseStream refuses a stream from the txn numbered first on.
func (r *Replica) refuseStream(from uint64, in *inflow, first uint64, code znode.Code) {
	if in.refused {
		return
	}
	in.refused, in.first, in.code = true, first, code
	r.sayRefused(from, in)
}

// sayRefused tells the origin of a stream that it is refused. The message can be lost only with the
// link, and is sent again over the next one.
func (r *Replica) sayRefused(to uint64, in *inflow) {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, refusedBytes), in.stream)
	b = binary.LittleEndian.AppendUint64(b, in.first)
	r.cfg.Peers.Forward(to, kindRefused, binary.LittleEndian.AppendUint32(b, uint32(int32(in.code))))
}

// refuseInbox refuses the txns that were taken and are not proposed: this node no longer leads.
func (r *Replica) refuseInbox() {
	c := &r.core
	for _, f := range c.inbox {
		r.refuseStream(f.from, f.in, f.first, znode.ErrNoLeader)
	}
	c.inbox, c.inboxBytes = nil, 0
	clear(c.in)
}

// streamRefused handles the leader's message that it proposes nothing of the stream from one of its
// txns on.
func (r *Replica) streamRefused(from uint64, b []byte) {
	c := &r.core
	if len(b) != refusedBytes || from != c.reign.lead || c.stream == 0 || binary.LittleEndian.Uint64(b) != c.stream {
		return
	}
	c.stream = 0
	r.mend(binary.LittleEndian.Uint64(b[8:]), znode.Code(int32(binary.LittleEndian.Uint32(b[16:]))), true)
}

// mendSent answers what was sent in a reign or over a link that has ended.
func (r *Replica) mendSent() {
	if c := &r.core; c.sent {
		c.sent = false
		r.mend(0, znode.ErrUncertain, false)
	}
}

// mend answers with code what was sent and is numbered from the given number on. If there was any,
// or lost says that an earlier one is lost, mend then refuses everything submitted after it: see
// the package comment. Meanwhile nothing is proposed or forwarded.
func (r *Replica) mend(from uint64, code znode.Code, lost bool) {
	c := &r.core
	held := c.subs[c.next:]
	c.subs, c.next = nil, 0
	c.mending++
	r.tasks.push(func() {
		lost = r.lose(from, code) || lost
		for lost {
			for _, s := range held {
				r.answer(s, tree.Result{Code: znode.ErrNoLeader})
			}
			// A connection that submitted something after one of these did so before this one was
			// answered.
			if held = r.submitted.take(nil); len(held) == 0 {
				break
			}
		}
		r.events.push(func() {
			c.mending--
			if len(held) > 0 {
				c.subs, c.next = held, 0
			}
		})
	})
}
