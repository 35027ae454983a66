// Package znode holds the basic types of the data model and the rules that depend on these alone: paths, stats,
// ACLs, identities, events, zxids, create modes and the error codes that clients see.
//
// It knows nothing about trees, connections or disks and keeps no state; any goroutine may call
// anything in it. Names and numbers are ZooKeeper's where ZooKeeper has them
// (https://zookeeper.apache.org/doc/r3.9.3/zookeeperProgrammers.html).
package znode
