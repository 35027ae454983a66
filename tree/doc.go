// Package tree is the replicated state: znodes, session records, ACLs, quotas and the counters that
// number changes. All nodes of a cluster must agree on it.
//
// It changes in one place, Apply, one txn after the other in log order. It is pure: no clock,
// random source, map order, goroutine, I/O or configuration decides anything here. What could
// differ between nodes is stamped in the Txn or is in the replicated Settings. The same log gives
// the same tree, and Digest proves it.
//
// Apply judges everything that depends on the state, in ZooKeeper's order of checks; a refusal is a Result
// and takes a zxid like a success. What depends on the request alone is refused by the frontend before it
// is logged. Apply checks that again, so that a log written by a careless frontend does no harm.
//
// Who may call: one goroutine at a time calls Apply and Freeze. Any number of goroutines may call the
// reading methods while none is in Apply (replica's state lock ensures both). A Frozen has no such rule: any
// goroutine may read it at any time. Strings handed out share the tree's memory and are never written again.
//
// # Memory
//
// A znode is one immutable record (a string: header, name and data in one allocation that the
// garbage collector does not scan), a slot of 24 bytes in a paged table, an entry in a hash index,
// and four bytes in its parent's ordered list of children. Only a znode that has had children has a
// dir. Every mutable block (page, dir, piece of a list) knows the generation in which it was made.
// Freeze starts a new generation and keeps the old blocks; the writer clones a block of an older
// generation before it changes it. So a freeze costs one copy of the page table, and keeps alive
// only the memory of what changes meanwhile.
package tree
