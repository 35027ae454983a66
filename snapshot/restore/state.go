package restore

import (
	"errors"
	"math"
	"slices"

	"coord/tree"
	"coord/tree/znode"
)

// How far clocks advance where the clients' last state is unknown. See the package comment.
const (
	VersionAdvance  = 1_000
	SequenceAdvance = 1_000_000
	EpochAdvance    = 100_000

	// maxEpoch keeps zxids positive in clients that treat them as signed.
	maxEpoch = math.MaxInt32
)

// ErrEpochs means that the state has used up its epochs: that takes 20,000 restores, or a forged file.
var ErrEpochs = errors.New("the epochs of this data are used up: no higher epoch is left for new writes")

// clock decides the clocks of the new state.
type clock struct {
	epoch int64 // of the restore
	exact bool  // leave versions and counters as they are
	// live is the state of the replaced folder, nil if there is none or it cannot be read. whole: live is
	// all that its clients saw. same: live belongs to the backup's own cluster, and the backup is not newer.
	live        *tree.Tree
	whole, same bool
	by          By
	// member: the restored folder is that of one of several servers, and the others' clients may
	// have seen later epochs.
	member bool
}

// epochAfter is the restore's epoch: above the highest epochs in the backup and in the replaced
// folder, and above what their clients may have seen beyond those.
func (c *clock) epochAfter(backup, live int64) (epoch, advance int64, err error) {
	seen := max(backup, live)
	if seen >= maxEpoch-1 { // the node's first leadership takes one more
		return 0, 0, ErrEpochs
	}
	if known := c.whole && c.same; !c.exact && !known || c.member {
		backup += EpochAdvance
		if !c.whole {
			live += EpochAdvance
		}
	}
	epoch = min(max(backup, live)+1, maxEpoch-1)
	return epoch, epoch - seen - 1, nil
}

// zxid is the restore's own: every txn of its epoch comes after it.
func (c *clock) zxid() znode.Zxid { return znode.MakeZxid(uint32(c.epoch), 0) }

// rebuild makes the new state from a backup's: it sets clocks and closes sessions.
func (c *clock) rebuild(t *ticker, backup *tree.Tree) (*tree.Tree, Advanced, Dropped, error) {
	done := Advanced{Exact: c.exact, By: c.by}
	f := backup.Freeze()
	b := tree.NewBuilder()
	var err error
	n, total := int64(0), int64(f.Len())
	f.Nodes(znode.Root, func(z *tree.Node) bool {
		if n++; n%rebuildStep == 0 {
			if err = t.tell(Progress{Stage: Rebuild, Done: n, Total: total}); err != nil {
				return false
			}
		}
		if !c.exact {
			c.adjust(backup, z, &done)
		}
		err = b.Add(z)
		return err == nil
	})
	var ids []int64
	var dropped Dropped
	f.Sessions(func(s *tree.Session) bool {
		if err == nil {
			err = b.AddSession(*s)
		}
		ids = append(ids, s.ID)
		dropped.Sessions = append(dropped.Sessions, DroppedSession{ID: znode.Hex(uint64(s.ID)), TimeoutMS: s.TimeoutMS})
		return err == nil
	})
	if err != nil {
		return nil, done, dropped, err
	}
	counters := f.Counters()
	if c.live != nil {
		counters.TimeMS = max(counters.TimeMS, c.live.Counters().TimeMS)
	}
	counters.EpochOffset, counters.Zxid = c.epoch-startTerm, c.zxid()
	state, err := b.Tree(counters)
	if err != nil {
		return nil, done, dropped, err
	}
	for i, id := range ids {
		session := &dropped.Sessions[i]
		_, events := state.Apply(startTerm, &tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id, TimeMS: counters.TimeMS})
		for _, e := range events {
			if e.Type == znode.NodeDeleted {
				session.Ephemerals++
				dropped.Ephemerals = append(dropped.Ephemerals, DroppedEphemeral{e.Path, session.ID})
			}
		}
	}
	slices.SortFunc(dropped.Ephemerals, func(a, b DroppedEphemeral) int {
		if a.Path < b.Path {
			return -1
		}
		return 1
	})
	return state, done, dropped, nil
}

// rebuildStep is how many znodes are made between two reports.
const rebuildStep = 1 << 14

// adjust sets the clocks of one znode.
func (c *clock) adjust(backup *tree.Tree, z *tree.Node, done *Advanced) {
	var live tree.Znode
	there := false
	if c.live != nil {
		var code znode.Code
		live, code = c.live.Get(z.Path, nil, 0)
		there = code == znode.OK
	}
	was := *z
	if there && c.whole && c.same && live.Stat.Czxid == z.Czxid {
		c.follow(backup, z, &live.Stat)
	} else {
		done.Unknown++
		z.Version, z.Aversion, z.Created = ahead(z.Version, c.by.Versions), ahead(z.Aversion, c.by.Versions), ahead(z.Created, c.by.Counters)
		if there {
			by := c.by
			if c.whole { // the folder's own clients saw no more than this
				by = By{Versions: 1}
			}
			z.Version = max(z.Version, ahead(live.Stat.Version, by.Versions))
			z.Aversion = max(z.Aversion, ahead(live.Stat.Aversion, by.Versions))
			z.Created = max(z.Created, ahead(createdOf(&live.Stat), by.Counters))
			c.raise(backup, z, &live.Stat)
		}
		z.Mzxid, z.Pzxid = c.zxid(), c.zxid()
	}
	count := func(n *int, was, is int32) {
		if is != was {
			*n++
			if is == math.MaxInt32 {
				done.AtTheEnd++
			}
		}
	}
	count(&done.Versions, was.Version, z.Version)
	count(&done.ACLVersions, was.Aversion, z.Aversion)
	count(&done.Counters, was.Created, z.Created)
}

// follow sets the clocks of a znode whose last state is known.
func (c *clock) follow(backup *tree.Tree, z *tree.Node, live *znode.Stat) {
	if live.Version != z.Version || live.Mzxid != z.Mzxid {
		z.Version = ahead(max(z.Version, live.Version), 1)
		z.Mzxid = c.zxid()
	}
	if live.Aversion != z.Aversion {
		z.Aversion = ahead(max(z.Aversion, live.Aversion), 1)
	}
	if created := createdOf(live); created != z.Created || live.Pzxid != z.Pzxid {
		z.Created = max(z.Created, created)
		c.raise(backup, z, live)
		z.Pzxid = c.zxid()
	}
}

// raise increases the count of children ever created until the cversion, which is twice that count
// less the present children, is higher than it was in live.
func (c *clock) raise(backup *tree.Tree, z *tree.Node, live *znode.Stat) {
	here, _ := backup.Get(z.Path, nil, 0)
	least := 2*int64(createdOf(live)) - int64(live.NumChildren) + 1
	created := (least + int64(here.Stat.NumChildren) + 1) / 2
	z.Created = int32(min(max(int64(z.Created), created), math.MaxInt32))
}

// createdOf computes the number of children ever created from the cversion, which may have wrapped around.
func createdOf(s *znode.Stat) int32 { return int32(uint32(s.Cversion+s.NumChildren) >> 1) }

// ahead adds, and stops at the largest int32.
func ahead(x, by int32) int32 {
	if x > math.MaxInt32-by {
		return math.MaxInt32
	}
	return x + by
}
