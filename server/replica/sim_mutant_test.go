package replica_test

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/wal"
)

// mutant is a bug that a seed must find. Where other systems have lost data by such a bug, it
// stands for that: the H numbers are those of the list of such losses that coord is tested against.
type mutant struct {
	name string
	h    string
}

func (m *mutant) is(other *mutant) bool { return m == other }

var (
	noFsync       = &mutant{"an append is answered without its fsync", "H1 H3"}
	hardFirst     = &mutant{"term and vote are durable before the entries", "H2"}
	hole          = &mutant{"an entry is empty on one disk", "H4"}
	deaf          = &mutant{"a failed write is passed over", "H5"}
	lateSnapshot  = &mutant{"a snapshot is acknowledged before it is durable", "H6 H7"}
	applyAll      = &mutant{"a start applies what is not committed", "H8"}
	mixedSnapshot = &mutant{"a snapshot has the state of one moment and the index of another", "H12"}

	ephemeralStays = &mutant{"an ephemeral stays", "H13"}
	indexBehind    = &mutant{"the index applied is not saved with the state", "H17"}
	soleVoter      = &mutant{"a sole voter answers before its fsync", "H18"}
	leaseRead      = &mutant{"a leader answers linearizable reads without asking", "H19"}
	olderNode      = &mutant{"a node shows an older state to a client that comes to it", "H20"}
	rearmedLate    = &mutant{"a watch is armed again without what was missed", "H20"}
	eventTwice     = &mutant{"an event comes twice", "H20"}
	watchForgotten = &mutant{"a watch is forgotten", "H20"}
	firstReceived  = &mutant{"of two snapshots that come, the first is installed twice", "H21"}
	wallExpiry     = &mutant{"sessions end by the wall clock", "H22"}

	forgetVote    = &mutant{"the vote is forgotten at a restart", ""}
	applyTwice    = &mutant{"an entry is applied twice", ""}
	earlyAck      = &mutant{"a write is answered before it is committed", ""}
	gapInStream   = &mutant{"a stream goes on behind a gap", ""}
	ownClock      = &mutant{"a node applies something of its own", ""}
	noExpiry      = &mutant{"nobody ends silent sessions", ""}
	noReports     = &mutant{"a node does not tell whom it hears", ""}
	anyAttachment = &mutant{"a write counts through any attachment", ""}

	twoViews     = &mutant{"a read is of two moments", ""}
	splitMulti   = &mutant{"the ops of a transaction are txns of their own", ""}
	leavesHalf   = &mutant{"a transaction that is refused leaves what came before", ""}
	ownNumbers   = &mutant{"a node numbers sequential znodes itself", ""}
	unbornReaped = &mutant{"a container goes before it has had a child", ""}
	earlyReap    = &mutant{"a container goes as soon as it is empty", ""}
	shortTTL     = &mutant{"a TTL is taken for half of it", ""}
	lateJudged   = &mutant{"what is due is deleted, though it has changed since", ""}
	noReap       = &mutant{"nobody deletes containers and TTL znodes", ""}
	shallowWatch = &mutant{"a recursive watch tells of its own znode alone", "H20"}
	toldSent     = &mutant{"a floor is told of what was sent", ""}
	toldAgain    = &mutant{"a watch is told again what its client has seen", "H20"}
)

// Mutants of the links.
var (
	swappedMessages = &mutant{"two messages of a link change places", ""}
	lostMessage     = &mutant{"a message is lost, and the link lives on", ""}
	messageTwice    = &mutant{"a message of a link comes twice", ""}
	lateMessage     = &mutant{"a message of a link comes behind one of the next link", ""}
	unseenDamage    = &mutant{"a damaged frame passes for whole", ""}
	olderAdmitted   = &mutant{"an older disk is let in", ""}
	olderVotes      = &mutant{"an older disk is let in with its vote, and the others are no majority without it", ""}
	removedAdmitted = &mutant{"a member that was removed is let in", ""}
	requestTwice    = &mutant{"a request is handled twice", ""}
	otherAnswer     = &mutant{"an answer is that to another request", ""}
	takenAgain      = &mutant{"a member that asks again is taken in again", ""}
)

var linkMutants = []*mutant{
	swappedMessages, lostMessage, messageTwice, lateMessage, unseenDamage, olderAdmitted, olderVotes, removedAdmitted, requestTwice, otherAnswer, takenAgain,
}

var mutants = []*mutant{
	noFsync, hardFirst, hole, deaf, lateSnapshot, applyAll, mixedSnapshot, ephemeralStays, indexBehind, soleVoter, leaseRead, olderNode,
	rearmedLate, eventTwice, watchForgotten, firstReceived, wallExpiry, forgetVote, applyTwice, earlyAck, gapInStream, ownClock, noExpiry,
	noReports, anyAttachment,
	twoViews, splitMulti, leavesHalf, ownNumbers, unbornReaped, earlyReap, shortTTL, lateJudged, noReap, shallowWatch, toldAgain,
	toldSent,
}

// elsewhere is where the rest of the list is tested: those faults are outside the simulation.
var elsewhere = map[string]string{
	"H9":  "wal: TestAgainstModel",
	"H10": "wal: TestMisplacedSegments, TestForeignSegment",
	"H11": "replica: TestALogThatDoesNotFitIsRefused; snapshot: TestPrune",
	"H14": "replica: TestAFailedWriteIsFinal; testscripts: TestEnsembleFaults",
	"H15": "no part of an election makes a snapshot: see the package comment",
	"H16": "tree: TestZxid, at the counter's end",
	"H23": "testscripts: TestStoppedHolder, lock_server_gone.txtar",
	"H24": "datadir: TestIdentityDamage; testscripts: TestEnsembleLosesADisk",
}

// TestTheSimulationFindsMutants: each mutant is found within this many seeds.
func TestTheSimulationFindsMutants(t *testing.T) { findMutants(t, mutants, 2000, simulate) }

// TestTheSimulationFindsLinksThatLie: the simulation checks what the real links promise.
func TestTheSimulationFindsLinksThatLie(t *testing.T) {
	findMutants(t, linkMutants, 100, simulateOverLinks)
}

// beginsAt is the seed at which the search for a mutant begins that few seeds find and that takes long
// with each seed.
var beginsAt = map[*mutant]uint64{takenAgain: 21}

func findMutants(t *testing.T, mutants []*mutant, seeds uint64, simulate func(*testing.T, uint64, *mutant) *sim) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			first := max(1, beginsAt[m])
			for seed := first; seed < first+seeds; seed++ {
				if s := simulate(t, seed, m); s.failure != "" {
					t.Logf("%s found with seed %d: %s", m.h, seed, s.failure)
					return
				}
			}
			t.Errorf("%d seeds have not found it", seeds)
		})
	}
}

// TestEachOfTheListIsTested: each loss of the list is tested by a mutant or elsewhere.
func TestEachOfTheListIsTested(t *testing.T) {
	is := map[string]bool{}
	for h := range elsewhere {
		is[h] = true
	}
	for _, m := range mutants {
		for h := range strings.FieldsSeq(m.h) {
			is[h] = true
		}
	}
	for i := range 24 {
		if h := fmt.Sprintf("H%d", i+1); !is[h] {
			t.Errorf("no test is named for %s", h)
		}
	}
}

// brokenLog is a node's log with a mutant.
type brokenLog struct {
	*memLog
	n *simNode
}

func (l *brokenLog) Append(batches ...wal.Batch) error {
	n := l.n
	for i, b := range batches {
		if len(b.Entries) == 0 {
			continue
		}
		first := b.Entries[0].GetIndex()
		n.lastWritten = first
		switch at := n.r.Status().Members; {
		case n.mutant.is(soleVoter):
			l.lies = len(at.Voters) == 1 && len(at.Outgoing) == 0
		case n.mutant.is(deaf) && n.unwritten == 0 && n.chance(1):
			n.unwritten = first
		case n.mutant.is(hole) && n.chance(1):
			e := proto.CloneOf(b.Entries[0])
			e.Data = nil
			batches[i].Entries = append([]*raftpb.Entry{e}, b.Entries[1:]...)
		}
	}
	return l.memLog.Append(batches...)
}

// loseMore removes from the disk what a crash would have lost with the mutant.
func (n *simNode) loseMore() {
	switch n.mutant {
	case hardFirst:
		n.log.forgetFrom(n.lastWritten)
	case deaf:
		n.log.forgetFrom(n.unwritten)
	}
	n.lastWritten, n.unwritten = 0, 0
}

// forgetFrom removes an entry and those after it, but none that a snapshot holds.
func (l *memLog) forgetFrom(index uint64) {
	j := &l.seen
	if index <= max(j.base.Index, j.mark.Index) || index > j.last() {
		return
	}
	j.entries = j.entries[:index-j.base.Index-1]
	j.hard.Commit, j.hint = min(j.hard.Commit, j.last()), min(j.hint, j.last())
	l.synced = l.seen
}
