// Package zkimport reads the data folder of a stopped Apache ZooKeeper, 3.4 to 3.9, into a tree. It writes
// nothing and knows nothing about coord's own folders and formats. Its functions, Read and Idle, keep no state.
//
// # What ZooKeeper leaves
//
//	version-2/snapshot.<zxid>[.gz|.snappy]   all znodes, taken while they changed
//	version-2/log.<zxid>                     txns, the name is the first one's zxid
//	version-2/currentEpoch, acceptedEpoch    of an ensemble's member, text
//
// With dataLogDir the logs are in a version-2 of their own. All numbers are big-endian. A string or
// buffer is an i32 length (-1: null) and its bytes; a vector is an i32 count and its elements.
//
//	snapshot: "ZKSN" version i32 (2) dbid i64
//	          count i32, sessions: id i64, timeout i32
//	          count i32, access lists: number i64, vector of (perms i32, scheme, id)
//	          znodes, parents first: path, data, access list i64, czxid mzxid ctime
//	                 mtime i64, version cversion aversion i32, owner i64, pzxid i64;
//	                 the root's path is ""
//	          "/"                      the path behind the last znode
//	          seal                     Adler-32 of all bytes so far, as i64; "/"
//	          digest (3.6), seal       zxid i64, version i32 (2), digest i64
//	          last zxid (3.9), seal    i64
//	log:      "ZKLG" version i32 (2) dbid i64
//	          records: Adler-32 of the txn i64, txn as a buffer, 'B'
//	          zeros                    room that was allocated ahead
//	txn:      session i64, cxid i32, zxid i64, time i64, type i32, then by type
//	          (see txn.go); since 3.6 a digest behind it: version i32, digest i64
//
// The checksum covers the unpacked bytes. gz is gzip; snappy is the framing of snappy-java: see xerial.
//
// # Fuzzy snapshots
//
// The zxid in a snapshot's name is the last one before the writing began. Each znode in the file is
// as it was when its turn came, and so may be newer. Replaying the log from the name's zxid on
// makes them agree: every txn sets what it set originally, or finds that its work is done already.
// This is how ZooKeeper itself does it, with the rules of its newest versions (see state.go). What
// these repair (counters that went back, access lists that were missing, children of a znode that
// was deleted and created again) is repaired for the folders of older versions too.
//
// One thing no replay can know. Before 3.6, or with closeSessionTxn.enabled=false, the txn that closes
// a session does not name its ephemerals. If the snapshot took a parent before that txn and came to
// the child after it, nothing says that the child existed, and the parent keeps its earlier pzxid.
// ZooKeeper itself shows that pzxid when it starts from such a snapshot. Nothing else is lost by it.
//
// Servers up to 3.4 begin without a snapshot, and the members of an ensemble begin with the first txn of
// an epoch. The first child of the root shows that there was nothing before: its create counts from one.
//
// These checks prove the result: the log has no gap after the snapshot; it reaches the newest
// change that the snapshot shows; every access list is present; and, since 3.6, the digest that
// ZooKeeper keeps of all znodes, which is computed anew and compared with the last one in the log.
// If any but the last check fails, the folder is refused. A digest that differs is only a notice,
// because ZooKeeper itself starts in that case.
//
// # Damage
//
// A damaged snapshot is passed over for the previous one. A log may end in a record that was not
// completely written. The record is cut if nothing valid follows and, if the log is not the last
// one, if the next log uses the cut txn's zxid again. Anything else is a DamageError. No length is
// trusted: allocations grow with the bytes that are there, up to maxBytes for each value.
package zkimport
