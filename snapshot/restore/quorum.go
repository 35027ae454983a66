package restore

import (
	"fmt"
	"path/filepath"
	"strings"

	"coord/snapshot/datadir"
	"coord/tree"
)

// Survivor describes the folder of a member whose ensemble has lost its quorum.
type Survivor struct {
	Identity
	Index     uint64 `json:"index"`     // of the last entry in its log
	Term      uint64 `json:"term"`      // of that entry
	Committed uint64 `json:"committed"` // the last entry that it knew to be committed
	// The number of txns after that. Nobody knows whether their clients got an answer, so they are kept.
	Txns           int      `json:"uncommitted_txns"`
	Voters         []string `json:"voters"`                    // as of the newest snapshot
	Learners       []string `json:"learners"`                  // as of the newest snapshot
	MembersChanged bool     `json:"members_changed,omitempty"` // since then
	TimeMS         int64    `json:"time_ms"`                   // stamp of the last txn
	Znodes         int      `json:"znodes"`
	Sessions       int      `json:"sessions"`
	Ephemerals     int      `json:"ephemerals"`
}

// readSurvivor is steps 3 to 6 for a lost quorum: the folder that is restored is the one that is replaced.
func (r *run) readSurvivor() (*tree.Tree, error) {
	rep, dir := &r.report, r.target.dir
	switch r.target.kind {
	case missing:
		return nil, fmt.Errorf("%s: %w", dir, datadir.ErrNoFolder)
	case empty:
		return nil, fmt.Errorf("%s: %w", dir, ErrNothing)
	}
	id, _, err := datadir.ReadIdentity(dir)
	switch {
	case err != nil:
		return nil, err
	case id.State == datadir.Removed:
		return nil, &RefusedError{dir, "its node was removed from the ensemble (" + id.Reason + "), which continued without it"}
	case id.State == datadir.Faulty:
		return nil, &datadir.DamageError{File: filepath.Join(dir, datadir.IdentityName), Reason: "the node must not start again: " + id.Reason}
	}
	f, err := readFolder(&r.ticker, dir, everyEntry)
	if err != nil {
		return nil, err
	}
	rep.Notices = append(rep.Notices, f.notices...)
	if f.sole() {
		why := "its node is the only voter and needs no other: start it with coord server"
		return nil, &RefusedError{dir, strings.Join(append([]string{why}, rep.Notices...), "; ")}
	}
	c, n := f.tree.Counters(), f.tree.Counts()
	rep.Survivor = &Survivor{
		Identity: identityOf(id), Index: f.meta.RaftIndex, Term: f.meta.RaftTerm, Committed: f.committed, Txns: f.beyond,
		Voters: nodeStrings(f.meta.Conf.Voters), Learners: nodeStrings(f.meta.Conf.Learners), MembersChanged: f.changed,
		TimeMS: c.TimeMS, Znodes: n.Znodes, Sessions: n.Sessions, Ephemerals: n.Ephemerals,
	}
	rep.Replaced = &Replaced{Identity: rep.Survivor.Identity, Zxid: c.Zxid.String(), Why: "its quorum is lost: the lost members may have had newer writes"}
	rep.check("snapshot and log", "read up to entry %d of term %d, zxid %v: checksums, records and digest are correct", f.meta.RaftIndex, f.meta.RaftTerm, c.Zxid)
	if f.beyond > 0 {
		rep.notice("the log ends with txns (%d) that were not known to be committed: they are kept, since their clients may have been told that they are", f.beyond)
	}
	rep.notice("writes that were acknowledged and never reached this node are lost")
	r.survivor, r.meta = f, f.meta
	rep.Space, err = r.target.roomFor(n)
	return f.tree, err
}

func nodeStrings(ids []uint64) []string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, datadir.NodeString(id))
	}
	return names
}
