// Package tree is the replicated state: znodes, session records, ACLs, quotas
// and the counters that name changes. It is what every node of a cluster must
// agree on.
//
// It changes in one place, Apply, one txn after the other in log order, and is
// pure: no clock, no random source, no map order, no goroutine, no I/O and no
// configuration decides anything here. What could differ between nodes comes
// stamped in the Txn or lies in the replicated Settings. The same log gives the
// same tree, and Digest proves it.
//
// What is judged: everything that depends on the state, in ZooKeeper's order of
// checks; a refusal is a Result and takes a zxid like a success. What depends on
// the request alone the edges refuse before it is logged; Apply judges it again,
// so that a log written by a careless edge can do no harm.
//
// Who may call: one goroutine at a time calls Apply and Freeze; any number may
// call the reading methods while nobody is in Apply (replica's state lock sees
// to both). Frozen is free of that: any goroutine may read it at any time.
// Strings handed out share the tree's memory and are never written again.
//
// # Memory
//
// A znode is one immutable record (a string: header, name and data in one
// allocation that the garbage collector does not look into), a slot of 24 bytes
// in a paged table, an entry in a hash index, and four bytes in its parent's
// ordered list of children. Only a znode that has had children carries a dir.
// Every mutable block (page, dir, piece of a list) knows the generation in which
// it was made; Freeze starts a new generation and keeps the old blocks, and the
// writer clones a block of an older generation before it changes it. So a freeze
// costs one copy of the page table, and the memory it holds back is what changes
// meanwhile.
package tree
