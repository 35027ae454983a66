package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// handOver is the way in which a leader gives up its leadership without any write being lost or refused:
//
//  1. holding: it tells the other nodes to forward nothing more, proposes nothing new of
//     its own, and waits until everything that was proposed or forwarded is answered. Each
//     of the others reports when its own txns are.
//  2. giving: raft transfers the leadership to the voter that has come furthest. On every node,
//     submissions that came in meanwhile are forwarded to the new leader.
//
// The leader waits half an election timeout for a member that does not answer; the txns that this member
// has forwarded may then be uncertain. If the leader's own submissions are not answered by then, or raft
// gives up, all nodes go on as before, and the leader tries again after two election timeouts, as long as
// a caller waits for it.
type handOver struct {
	phase     handOverPhase
	callers   []*leaver
	to        uint64 // the node that Transfer has named; 0: the best one
	attempt   int
	since     uint64 // the tick at which it began to hold
	restUntil uint64 // tick
	answered  bool   // this node's own submissions are answered
	missing   map[uint64]bool
}

type handOverPhase byte

const (
	resting handOverPhase = iota
	holding
	giving
)

// leaver is a call of HandOver.
type leaver struct {
	led  bool
	done func()
}

func (h *handOver) under() bool { return h.phase != resting }

// HandOver gives the leadership, if this node has it, to the voter that has come furthest among
// those heard from lately, and returns when another node leads. It returns at once if this node
// does not lead, or if no other node votes. No write is lost or refused; writes that are submitted
// meanwhile wait. It returns the context's error if no node could take over, or Run has ended. Any
// goroutine may call it.
func (r *Replica) HandOver(ctx context.Context) error {
	over := make(chan struct{})
	x := &leaver{done: func() { close(over) }}
	r.askHandOver(x)
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		r.events.push(func() {
			h := &r.core.handOver
			h.callers = slices.DeleteFunc(h.callers, func(y *leaver) bool { return x == y })
		})
		return fmt.Errorf("replica: hand over the leadership: %w", ctx.Err())
	}
}

func (r *Replica) askHandOver(x *leaver) {
	r.events.push(func() { r.core.handOver.callers = append(r.core.handOver.callers, x) })
}

// Transfer asks this leader to give its leadership to the voter to, which must have caught up. It
// tries once, and works like HandOver.
func (r *Replica) Transfer(to uint64) {
	r.events.push(func() {
		if h := &r.core.handOver; !h.under() {
			h.to = to
			r.maybeHold()
			if !h.under() {
				h.to = 0
			}
		}
	})
}

// stepHandOver advances the hand-over as far as it can.
func (r *Replica) stepHandOver() {
	c, h := &r.core, &r.core.handOver
	leads := c.reign.lead == r.cfg.NodeID
	alone := !slices.ContainsFunc(c.members.Voters, func(id uint64) bool { return id != r.cfg.NodeID })
	h.callers = slices.DeleteFunc(h.callers, func(x *leaver) bool {
		x.led = x.led || leads
		over := leads && alone || !leads && (!x.led || c.reign.lead != 0)
		if over {
			x.done()
		}
		return over
	})
	late := c.ticks-h.since > uint64(r.cfg.ElectionTick/2)
	switch {
	case !leads:
		h.phase, h.to, h.missing = resting, 0, nil
	case h.phase == resting:
		if len(h.callers) > 0 && c.ticks >= h.restUntil {
			r.maybeHold()
		}
	case h.phase == giving:
		if c.transferTo == 0 { // raft has given up
			r.goOn()
		}
	case len(h.callers) == 0 && h.to == 0:
		r.goOn()
	case h.answered && len(c.inbox) == 0 && (late || len(h.missing) == 0):
		r.give()
	case late:
		r.goOn()
	}
}

// maybeHold begins a hand-over if there is a node that can take over.
func (r *Replica) maybeHold() {
	c, h := &r.core, &r.core.handOver
	if !c.isReady || c.change != nil || len(c.members.Outgoing) > 0 || c.transferTo != 0 || r.successor() == 0 {
		return
	}
	h.attempt++
	h.phase, h.since, h.answered, h.missing = holding, c.ticks, false, map[uint64]bool{}
	r.sendHold(true)
	attempt := h.attempt
	r.whenAnswered(func() {
		r.events.push(func() { h.answered = h.answered || h.attempt == attempt })
	})
}

func (r *Replica) give() {
	c, h := &r.core, &r.core.handOver
	to := r.successor()
	if to == 0 {
		r.goOn()
		return
	}
	r.log.Info().Str("peer", nodeString(to)).Msg("handing over leadership")
	c.rn.TransferLeader(to)
	h.phase, c.transferTo = giving, to
}

// goOn ends an attempt: this node goes on leading as before.
func (r *Replica) goOn() {
	h := &r.core.handOver
	h.phase, h.to, h.missing = resting, 0, nil
	h.restUntil = r.core.ticks + 2*uint64(r.cfg.ElectionTick)
	r.sendHold(false)
}

// successor returns the voter to hand over to; 0: there is none.
func (r *Replica) successor() uint64 {
	c := &r.core
	var best Progress
	for _, p := range r.progress() {
		switch {
		case c.handOver.to != 0 && p.Node != c.handOver.to:
		case !p.Caught || p.Heard > r.lately() || !c.up[p.Node] || !slices.Contains(c.members.Voters, p.Node):
		case best.Node == 0 || p.Match > best.Match || p.Match == best.Match && p.Heard < best.Heard:
			best = p
		}
	}
	return best.Node
}

// sendHold tells the other nodes to forward nothing, or to go on.
func (r *Replica) sendHold(on bool) {
	c := &r.core
	b := append(binary.LittleEndian.AppendUint64(nil, c.reign.term), 0)
	if on {
		b[8] = 1
	}
	for _, p := range r.progress() {
		if c.up[p.Node] {
			if on {
				c.handOver.missing[p.Node] = true
			}
			r.cfg.Peers.Forward(p.Node, kindHold, slices.Clone(b))
		}
	}
}

// takeHold handles the leader's request to forward nothing until it says so, or another node leads,
// or two election timeouts have passed.
func (r *Replica) takeHold(from uint64, b []byte) {
	c := &r.core
	if len(b) != holdBytes || from != c.reign.lead || binary.LittleEndian.Uint64(b) != c.reign.term {
		return
	}
	if b[8] == 0 {
		c.heldUntil = 0
		return
	}
	until, now := c.ticks+2*uint64(r.cfg.ElectionTick), c.reign
	c.heldUntil = until
	r.whenAnswered(func() {
		r.events.push(func() {
			if c.reign == now && c.heldUntil == until {
				r.cfg.Peers.Forward(from, kindHeld, b[:heldBytes])
			}
		})
	})
}

// takeHeld handles another node's report that everything it has forwarded is answered and that no
// more will come.
func (r *Replica) takeHeld(from uint64, b []byte) {
	if c := &r.core; len(b) == heldBytes && binary.LittleEndian.Uint64(b) == c.reign.term {
		delete(c.handOver.missing, from)
	}
}
