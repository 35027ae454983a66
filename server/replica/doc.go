// Package replica drives one replicated log on go.etcd.io/raft/v3 and the state that the log
// produces: propose, log, commit, apply, answer, snapshot. It decides nothing that raft decides. It
// knows no client protocol and opens no file and no socket.
//
// Four parts each own their state. They are joined by queues that never make the sender wait:
//
//	                     submissions          MsgStorageAppend
//	          Submit ──────────────▶ loop ──────────────────────▶ log writer ─ write, fsync
//	StepRaft, StepForward, PeerUp ──▶│ ▲ ▲────── responses ──────────┘
//	                 MsgStorageApply │ │ responses
//	                                 ▼ │          Frozen
//	                                applier ─────────────────▶ snapshotter ─ file, then mark and compact the log
//	                                  │
//	                                  └─ tree.Apply, watch.Trigger, done: under the state lock
//
// The parts:
//   - loop owns the RawNode: ticks or messages in, Ready out. It waits for no
//     disk, no socket and no lock that is held over I/O.
//   - log writer owns the Log: it merges all waiting appends into one write and
//     one fsync, then delivers their responses in order.
//   - applier owns the writing side of the tree, the members as of the last entry it
//     applied, and the table of unanswered submissions. What must run between two txns runs here.
//   - snapshotter turns a Frozen into a file.
//
// Each part works in turns: a turn takes what waits, handles it, and reports whether there was
// anything. Run gives each part a goroutine that takes turns and sleeps in between. But a goroutine
// that brings the loop or the applier a small item while that part is idle takes the turn itself
// (seat). The simulation of whole clusters (sim_test.go) takes all turns itself, in an order that
// its seed decides.
//
// This package keeps these promises, each with a test of its name:
//   - Nothing is answered before the fsync it relies on.
//   - A failed write or fsync ends Run with its error and is never retried.
//   - Apply and Trigger are one locked step; a submission's done runs in that step, before the
//     next txn.
//   - Each index is applied exactly once.
//
// # Forwarded writes
//
// A follower numbers its txns and forwards them to the leader in a stream. A stream
// belongs to one term and one link, is named by the number of its first txn, and
// has no gaps. The leader takes the txns that are of its own term and contiguous, stamps
// them and proposes them. It refuses any other txn, and with it the rest of the stream,
// for good. No answer comes back over the stream: the origin applies its own txns like
// every node does, recognizes them by origin, number and term, and answers them then.
//
// When the term, the leader or the link changes, or the stream is refused, txns may be
// lost, and no txn that was submitted after a lost write over the same client connection may
// succeed. A client connection calls Submit under its lock, and the done of a lost write ends
// the connection under the same lock. So the follower (and a leader that has lost its
// leadership) mends, in this order:
//
//  1. The loop stops proposing and forwarding.
//  2. The applier answers what was sent: with ErrUncertain, or with the leader's reason if
//     the leader has said that the txn was not proposed.
//  3. If it has answered any, the applier refuses the submissions in the queue (ErrNoLeader),
//     and repeats this until the queue is empty: a connection that submitted something after
//     a lost write did so before the done of that write ran.
//  4. The loop opens a new stream, once there is a leader and a link to it.
//
// Submissions that wait longer than Config.SyncTicks for this are refused in the same way.
// A leader that hands over first lets all streams run dry: see handOver.
//
// Each life of a node begins its numbers at a random one, so that txns sent in an earlier
// life are not mistaken for those of this one.
//
// # Changes of members
//
// Raft's members are those that the applied entries make, not those in the log: after a
// crash a node starts from the members that it knows to be committed. A node that learns of
// its removal leaves for good, and an operator who learns of it may destroy that node. If
// all the other nodes crashed then and no longer knew that the change is committed, they
// would need its vote. So a change of members is applied, and thereby becomes visible to
// others, only after this node has recorded on its disk that the change is committed. The
// caller that asked for the change is answered only after a quorum of the new voters has
// recorded it too (confirm).
//
// # Floors
//
// A node that comes back with an older copy of its disk has lost entries that it has
// acknowledged, and must not vote or lead with that disk. So a leader records in its batches
// what each member has acknowledged of the committed entries (tree.Floor). Two things show that
// a node's log is an older copy. Either it ends before its floor, for committed entries are
// never cut off. Or the node has never been in the term of the entry at its floor: then the end
// of its log is one that was cut off later. The second check works while the log of the checking
// node still holds that entry. The applier keeps the highest floor of each member in its Point,
// which is in snapshots too; the links ask for it (Replica.Floor) when a node dials.
//
// A leader records the floors that have moved, at most once a second of its ticks, and only in
// batches that it proposes anyway. So no floor covers the newest second of writes, nor the last
// writes before a pause. The leader to which a node has acknowledged these knows of them
// nevertheless. It checks when the node dials (package admission), and its heartbeats to the
// node carry the term of the entry up to which they tell it to commit (ErrOlder).
//
// # Snapshots of other nodes
//
// Raft's message names a snapshot; its content travels outside raft and is complete
// when the message is delivered. The log writer then makes the file durable, resets
// the log to it, gives it the name that makes it a file a start may use, and only then lets
// raft answer; the applier replaces the old tree by the new one. A crash in between leaves
// a waiting file: it is this node's snapshot if the log begins at its index. Raft may hear of a
// change of members that the applier has passed only after the snapshot; such a change
// is not made again.
package replica
