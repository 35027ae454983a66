package replica

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"

	"coord/tree"
	"coord/tree/znode"
)

// question is a ReadIndex under way, for all barriers that waited when it was asked. It may have
// been asked several times: any answer will do.
type question struct {
	dones       []Done
	first       uint64 // number of the first request
	since, last uint64 // ticks of the first and the last request
	again       bool   // ask again at once: the leader has changed
}

// readIndex asks raft for the index up to which reads must wait, one question at a time for all
// waiting reads.
func (r *Replica) readIndex() bool {
	c := &r.core
	c.reads = append(c.reads, r.barriers.take(nil)...)
	lead := c.reign.lead
	follows := lead != 0 && lead != r.cfg.NodeID
	if follows && !c.lettingIn {
		select {
		case <-r.ready:
		default:
			c.lettingIn = true
			c.reads = append(c.reads, r.letInFollower)
		}
	}
	q := &c.asked
	switch {
	case len(q.dones) > 0 && c.ticks-q.since > uint64(r.cfg.SyncTicks):
		r.refuseReads(&q.dones)
	case len(q.dones) > 0:
		if !q.again && c.ticks-q.last < uint64(r.cfg.ElectionTick) || !c.isReady && !follows {
			return false
		}
		r.ask()
	case len(c.reads) == 0:
		return false
	case c.isReady || follows:
		q.dones, c.reads = c.reads, nil
		q.first, q.since = c.readSeq+1, c.ticks
		r.ask()
	case c.idle >= r.cfg.SyncTicks:
		// Before an entry of the leader's own term is applied, ReadIndex of a sole voter may answer
		// with an index that is too old (reference: raft PR 105).
		r.refuseReads(&c.reads)
	default:
		return false
	}
	return true
}

func (r *Replica) ask() {
	c := &r.core
	c.readSeq++
	c.asked.last, c.asked.again = c.ticks, false
	c.rn.ReadIndex(binary.LittleEndian.AppendUint64(nil, c.readSeq))
}

// answered passes the answer of a question on to the applier.
func (r *Replica) answered(rs raft.ReadState) {
	q := &r.core.asked
	if len(q.dones) == 0 || len(rs.RequestCtx) != 8 || binary.LittleEndian.Uint64(rs.RequestCtx) < q.first {
		return // the question has been answered already
	}
	dones, index := q.dones, rs.Index
	q.dones = nil
	r.tasks.push(func() { r.whenApplied(index, dones) })
}

func (r *Replica) refuseReads(dones *[]Done) {
	refused := *dones
	*dones = nil
	r.tasks.push(func() {
		for _, done := range refused {
			r.answer(submission{done: done}, tree.Result{Code: znode.ErrNoLeader})
		}
	})
}

// letInFollower is the done of the barrier after which a follower is ready.
func (r *Replica) letInFollower(result tree.Result, _ *tree.Tree, _ *watchTable) {
	if result.Code == znode.OK {
		r.letIn()
		return
	}
	r.events.push(func() { r.core.lettingIn = false })
}
