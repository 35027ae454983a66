package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/server/peer"
	"coord/server/replica"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
)

// A snapshot for a node that is too far behind is sent separately from raft's messages. Raft's
// message that names it travels with it, in the descriptor:
//
//	id 16, of the file | message, raft's own encoding
//
// The receiver has the whole file, verified and loaded, before raft hears of it. Both ends do their
// part in the background and serve others meanwhile.
const idBytes = 16

// Snapshot sends a snapshot and reports the outcome to the replica: replica.Peers.
func (c carrier) Snapshot(m *raftpb.Message) {
	c.task(func(ctx context.Context) {
		err := c.sendSnapshot(ctx, m)
		if again := c.pauseBehind(m.GetTo(), err); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Str("to", datadir.NodeString(m.GetTo())).Uint64("index", m.GetSnapshot().GetMetadata().GetIndex()).
				Stringer("again_in", again).Msg("snapshot not delivered to a peer: it will be sent again")
			pause(ctx, again) // raft tries again as soon as it knows the outcome
		}
		c.replica.Load().ReportSnapshot(m.GetTo(), err == nil)
	})
}

// Pauses before a snapshot is offered again to a node that did not take it, for want of room for
// example: short at first, then longer each time.
const (
	soonestAgain = 100 * time.Millisecond
	latestAgain  = 15 * time.Second
)

// pauseBehind is how long to wait after sending a snapshot to a node before the next one.
func (e *ensemble) pauseBehind(node uint64, err error) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		delete(e.pauses, node)
		return 0
	}
	e.pauses[node] = min(max(soonestAgain, 2*e.pauses[node]), latestAgain)
	return e.pauses[node]
}

func (e *ensemble) sendSnapshot(ctx context.Context, m *raftpb.Message) error {
	at := m.GetSnapshot().GetMetadata()
	f, info, err := e.store.Load().Open(at.GetIndex())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	h := peer.SnapshotHeader{Index: at.GetIndex(), Term: at.GetTerm(), Size: fi.Size(), Descriptor: append(info.Meta.BackupID[:], body...)}
	e.log.Info().Uint64("index", h.Index).Int64("bytes", h.Size).Str("to", datadir.NodeString(m.GetTo())).Msg("sending snapshot")
	return inBackground(func() error { return e.links.SendSnapshot(ctx, m.GetTo(), h, f) })
}

// Snapshot takes a snapshot from a peer and tells raft of it: peer.Handler.
func (e *ensemble) Snapshot(ctx context.Context, from uint64, h peer.SnapshotHeader, r io.Reader) error {
	err := e.take(ctx, from, h, r)
	if err != nil && ctx.Err() == nil {
		e.log.Warn().Err(err).Uint64("index", h.Index).Int64("bytes", h.Size).Str("from", datadir.NodeString(from)).Msg("snapshot not accepted")
	}
	return err
}

func (e *ensemble) take(ctx context.Context, from uint64, h peer.SnapshotHeader, r io.Reader) error {
	if len(h.Descriptor) < idBytes {
		return errors.New("snapshot without a descriptor")
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(h.Descriptor[idBytes:], m); err != nil {
		return fmt.Errorf("invalid raft message of the snapshot: %w", err)
	}
	if m.GetType() != raftpb.MsgSnap || m.GetSnapshot().GetMetadata().GetIndex() != h.Index || m.GetSnapshot().GetMetadata().GetTerm() != h.Term {
		return errors.New("the raft message does not match the snapshot")
	}
	rep, store := e.replica.Load(), e.store.Load()
	if rep == nil {
		return errors.New("this node is starting")
	}
	if err := e.makeRoom(ctx, store, h.Size); err != nil {
		return err
	}
	var got *snapshot.Received
	err := inBackground(func() error {
		return e.n.collector.whileGrowing(func() (err error) {
			got, err = store.Receive(ctx, r, h.Size)
			return err
		})
	})
	if err != nil {
		return err
	}
	meta := got.Info().Meta
	if meta.ClusterID != e.n.identity.Cluster || meta.RaftIndex != h.Index || meta.RaftTerm != h.Term {
		return errors.Join(errors.New("the snapshot does not match its announcement"), got.Discard())
	}
	if err := e.put(got, rep.Status().Applied); err != nil {
		return err
	}
	e.log.Info().Uint64("index", h.Index).Int64("bytes", h.Size).Msg("snapshot received")
	rep.StepRaft(from, []*raftpb.Message{m})
	return nil
}

// makeRoom returns an error if there is no room for a snapshot of so many bytes. If necessary it
// removes all snapshots but the newest: the one that arrives will replace them all.
func (e *ensemble) makeRoom(ctx context.Context, store *snapshot.Store, bytes int64) error {
	if e.n.space.fits(bytes) == nil {
		return nil
	}
	if _, err := store.Prune(ctx, 1, 0, time.Now()); err != nil {
		return err
	}
	return e.n.space.fits(bytes)
}

// maxArrived is how many snapshots may wait until raft asks for them: one from each of a few leaders in a row.
const maxArrived = 3

// put keeps a snapshot until raft asks for it, and removes those that the state has passed.
// Removing a file may take long, and the loop may want mu, so put removes files without holding it.
func (e *ensemble) put(got *snapshot.Received, applied uint64) error {
	grownOut, kept, err := e.arrive(got, applied)
	for _, old := range grownOut {
		_ = old.Discard()
	}
	if !kept {
		err = errors.Join(err, got.Discard())
	}
	return err
}

func (e *ensemble) arrive(got *snapshot.Received, applied uint64) (grownOut []*snapshot.Received, kept bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for index, old := range e.arrived {
		if index <= applied {
			delete(e.arrived, index)
			grownOut = append(grownOut, old)
		}
	}
	index := got.Info().Meta.RaftIndex
	switch {
	case index <= e.taken, e.arrived[index] != nil: // the same state, perhaps already being installed; or an older one
		return grownOut, false, nil
	case len(e.arrived) >= maxArrived:
		return grownOut, false, errors.New("too many snapshots received")
	}
	e.arrived[index] = got
	return grownOut, true, nil
}

// Install makes a snapshot that has arrived durable: replica.Received.
func (e *ensemble) Install(at replica.Point) (*tree.Tree, error) {
	e.mu.Lock()
	got := e.arrived[at.Index]
	delete(e.arrived, at.Index)
	e.taken = at.Index
	e.mu.Unlock()
	if got == nil {
		return nil, fmt.Errorf("no snapshot of entry %d", at.Index)
	}
	if err := got.Keep(); err != nil {
		return nil, err
	}
	return got.Tree(), nil
}

// Installed gives that snapshot its final name: replica.Received.
func (e *ensemble) Installed(at replica.Point) error {
	ok, err := e.store.Load().Adopt(at.Index, at.Term)
	if err == nil && !ok {
		err = fmt.Errorf("the snapshot of entry %d is gone", at.Index)
	}
	return err
}

// Unwanted discards a snapshot that raft does not want: replica.Received.
func (e *ensemble) Unwanted(index uint64) {
	e.mu.Lock()
	got := e.arrived[index]
	delete(e.arrived, index)
	e.mu.Unlock()
	if got != nil {
		e.task(func(context.Context) { _ = got.Discard() })
	}
}

var (
	_ replica.Peers    = carrier{}
	_ replica.Received = (*ensemble)(nil)
	_ peer.Handler     = (*ensemble)(nil)
)
