// Package replica drives one replicated log on go.etcd.io/raft/v3 and the state
// that it makes: propose, log, commit, apply, answer, snapshot. It decides
// nothing that raft decides, knows no client protocol and opens no file.
//
// Four goroutines, each the owner of its part, joined by queues that never make
// the sender wait:
//
//		           submissions          MsgStorageAppend
//		Submit ──────────────▶ loop ──────────────────────▶ log writer ─ write, fsync
//		                        │ ▲ ▲────── responses ──────────┘
//		       MsgStorageApply  │ │ responses
//		                        ▼ │          Frozen
//		                      applier ─────────────────▶ snapshotter ─ file, then mark and compact the log
//		                        │
//		                        └─ tree.Apply, watch.Trigger, done: under the state lock
//
//	  - loop owns the RawNode: ticks or messages in, Ready out. It waits for no
//	    disk, no socket and no lock that is held over I/O.
//	  - log writer owns the Log: it merges all appends that wait into one write and
//	    one fsync, then delivers their responses in order.
//	  - applier owns the tree's writing side and the table of unanswered
//	    submissions. What must run between two txns runs here.
//	  - snapshotter turns a Frozen into a file.
//
// Promises kept here, each with a test of its name: nothing is answered before
// the fsync it relies on; a failed write or fsync ends Run with its error and is
// never tried again; Apply and Trigger are one locked step, and a submission's
// done runs in it, before the next txn; an index is applied once and none is
// left out.
package replica
