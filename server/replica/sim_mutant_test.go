package replica_test

import "testing"

// mutant is a fault of the program that a seed must find.
type mutant struct {
	name string
}

func (m *mutant) is(other *mutant) bool { return m == other }

var (
	noFsync      = &mutant{"an append is answered without its fsync"}
	forgetVote   = &mutant{"the vote is forgotten at a restart"}
	applyTwice   = &mutant{"an entry is applied twice"}
	earlyAck     = &mutant{"a write is answered before it is committed"}
	lateSnapshot = &mutant{"a snapshot is acknowledged before it is durable"}
	gapInStream  = &mutant{"a stream goes on behind a gap"}
	ownClock     = &mutant{"a node applies something of its own"}

	olderNode      = &mutant{"a node shows an older state to a client that comes to it"}
	ephemeralStays = &mutant{"an ephemeral stays"}
	noExpiry       = &mutant{"nobody ends silent sessions"}
	noReports      = &mutant{"a node does not tell whom it hears"}
	wallExpiry     = &mutant{"sessions end by the wall clock"}
	anyAttachment  = &mutant{"a write counts through any attachment"}
	leaseRead      = &mutant{"a leader answers linearizable reads without asking"}
	eventTwice     = &mutant{"an event comes twice"}
	watchForgotten = &mutant{"a watch is forgotten"}
	rearmedLate    = &mutant{"a watch is armed again without what was missed"}
)

// TestTheSimulationFindsMutants: each is found within so many seeds.
func TestTheSimulationFindsMutants(t *testing.T) {
	for _, m := range []*mutant{noFsync, forgetVote, applyTwice, earlyAck, lateSnapshot, gapInStream, ownClock, olderNode, ephemeralStays, noExpiry, noReports, wallExpiry, anyAttachment, leaseRead, eventTwice, watchForgotten, rearmedLate} {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(2000) {
				if s := simulate(t, seed+1, m); s.failure != "" {
					t.Logf("found with seed %d: %s", seed+1, s.failure)
					return
				}
			}
			t.Error("2,000 seeds have not found it")
		})
	}
}
