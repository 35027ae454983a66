// Package znode holds the nouns of the data model and the rules that belong to
// them alone: paths, stats, ACLs, identities, events, zxids, create modes and
// the error codes that clients see.
//
// It knows nothing of a tree, a connection or a disk, keeps no state, and any
// goroutine may call anything in it. Names and numbers are ZooKeeper's where
// ZooKeeper has them (https://zookeeper.apache.org/doc/r3.9.3/zookeeperProgrammers.html).
package znode
