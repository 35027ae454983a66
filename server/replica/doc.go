// Package replica drives one replicated log on go.etcd.io/raft/v3 and the state
// that it makes: propose, log, commit, apply, answer, snapshot. It decides
// nothing that raft decides, knows no client protocol, opens no file and no socket.
//
// Four parts, each the owner of its state, joined by queues that never make the
// sender wait:
//
//		                     submissions          MsgStorageAppend
//		          Submit ──────────────▶ loop ──────────────────────▶ log writer ─ write, fsync
//		StepRaft, StepForward, PeerUp ──▶│ ▲ ▲────── responses ──────────┘
//		                 MsgStorageApply │ │ responses
//		                                 ▼ │          Frozen
//		                                applier ─────────────────▶ snapshotter ─ file, then mark and compact the log
//		                                  │
//		                                  └─ tree.Apply, watch.Trigger, done: under the state lock
//
//	  - loop owns the RawNode: ticks or messages in, Ready out. It waits for no
//	    disk, no socket and no lock that is held over I/O.
//	  - log writer owns the Log: it merges all appends that wait into one write and
//	    one fsync, then delivers their responses in order.
//	  - applier owns the tree's writing side, the members as of its last entry, and
//	    the table of unanswered submissions. What must run between two txns runs here.
//	  - snapshotter turns a Frozen into a file.
//
// Each part has a turn: take what waits, handle it, say whether there was anything.
// Run gives each a goroutine that takes turns and sleeps between; but whoever brings the
// loop or the applier something small, while nobody is at it, takes the turn in its place
// (seat). The simulation of whole clusters (sim_test.go) takes all turns itself, in an
// order that its seed decides.
//
// Promises kept here, each with a test of its name: nothing is answered before
// the fsync it relies on; a failed write or fsync ends Run with its error and is
// never tried again; Apply and Trigger are one locked step, and a submission's
// done runs in it, before the next txn; an index is applied once and none is
// left out.
//
// # Forwarded writes
//
// A follower numbers its txns and forwards them to the leader, in a stream: it
// belongs to one term and one link, is named by the number of its first txn, and
// has no gaps. The leader takes what is of its own term and contiguous, stamps it
// and proposes it; anything else it refuses, and with it the rest of the stream,
// for ever. No answer comes back that way: the origin applies its own txns like
// everybody, knows them by origin, number and term, and answers them then.
//
// When the term, the leader or the link is another, or the stream is refused,
// something may be lost, and nothing that was submitted behind a lost write over the
// same connection may succeed. A connection calls Submit under its lock, and its
// done, under the same lock, ends it. So the follower (and a leader that has lost
// its place) mends, in this order:
//
//  1. The loop proposes and forwards nothing any more.
//  2. The applier answers what was sent: ErrUncertain, or the leader's reason if it
//     has said that it was not proposed.
//  3. If that was anything, the applier refuses what waits in the queue (ErrNoLeader),
//     and again, until the queue is empty: whoever had submitted behind a lost
//     write did so before that write's done.
//  4. The loop opens a new stream, when there is a leader and a link to it.
//
// What waits longer than Config.SyncTicks for that is refused in the same way.
// A leader that hands over lets all streams run dry first: see handOver.
//
// Numbers begin at a random one in each life of a node, so that what an earlier
// life has sent is not taken for what this one sends.
//
// # Changes of members
//
// Raft's members are those that the applied entries make, not those in the log: after a
// crash a node goes by what it knows to be committed. A node that was told that it is removed
// goes for good, and an operator who was told so destroys it. If all others crashed then and
// had forgotten that the change is committed, they would need its vote. So a change of
// members is applied, which is when others can hear of it, only when this node's disk
// has it that it is committed; and who asked for it is answered when a quorum of the new voters
// has that (confirm).
//
// # Floors
//
// A node that comes back with an older copy of its disk has lost what it has acknowledged,
// and must not vote or lead with it. So a leader tells in its batches what each member has
// acknowledged of what is committed (tree.Floor): a log of that node that ends before it is
// an older one, for what is committed is never cut off. So is one whose node has never been in
// the term of that entry, as far as the log of whoever looks still has it: its end was cut off
// later. The applier keeps the highest of each member in its Point, which is in snapshots too;
// the links ask for it (Replica.Floor) when a node dials. A leader tells what has moved, at most once a second of its ticks, and only with
// txns that are proposed anyway: so the newest second of writes, and the last one before
// a rest, is told of nobody. The leader to which a node has acknowledged them knows of these
// too: when that dials (package admission), or by its heartbeats to it, which say the term
// of the entry that they tell to commit (ErrOlder).
//
// # Snapshots of other nodes
//
// Raft's message names a snapshot; its content travels outside raft and is whole
// when the message is delivered. The log writer then makes the file durable, resets
// the log to it, gives it the name with which a start may begin, and only then lets
// raft answer; the applier puts the new tree in the place of the old one. A crash in
// between leaves a file that waits: it is this node's if the log begins at its index. A change of members that the applier passed before,
// and raft hears of behind the snapshot, is not made again.
package replica
