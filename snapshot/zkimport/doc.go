// Package zkimport reads the data folder of a stopped Apache ZooKeeper, 3.4 to
// 3.9, into a tree. It writes nothing, knows nothing of coord's own folders and
// formats, and its one function, Read, keeps no state.
//
// # What ZooKeeper leaves
//
//	version-2/snapshot.<zxid>[.gz|.snappy]   all znodes, taken while they changed
//	version-2/log.<zxid>                     txns, the name is the first one's zxid
//	version-2/currentEpoch, acceptedEpoch    of an ensemble's member, text
//
// With dataLogDir the logs lie in a version-2 of their own. All numbers are
// big-endian; a string or buffer is an i32 length (-1: null) and its bytes, a
// vector an i32 count and its elements.
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
// The checksum covers the unpacked bytes. gz is gzip; snappy is the framing of
// snappy-java: see xerial.
//
// # Fuzzy snapshots
//
// The zxid in a snapshot's name was the last when the writing began. Each znode
// in it is as it was when its turn came, and so may be from later. Replaying the
// log from the name's zxid on makes them agree: every txn sets what it set then,
// or finds that its work is there already. This is ZooKeeper's own way, with the
// rules of its newest versions (see state.go); what they mend (counters that went
// back, access lists that were missing, children of a znode deleted and made
// anew) is mended for the folders of older versions too.
//
// One thing no replay can tell: before 3.6, or with closeSessionTxn.enabled=false,
// the txn that closes a session does not name its ephemerals. Where the snapshot
// took a parent before that txn and came to the child behind it, nothing says that
// there was one, and the parent's pzxid stays the one before. ZooKeeper itself shows
// that pzxid when it starts from such a snapshot; nothing else is lost by it.
//
// Servers up to 3.4 begin without a snapshot, the members of an ensemble with the
// first txn of an epoch. That nothing was before it shows in the first child of the
// root: its create counts from one.
//
// What proves the outcome: the log has no gap behind the snapshot; it reaches as
// far as the newest change that the snapshot shows; every access list is there;
// and, since 3.6, the digest that ZooKeeper keeps of all znodes, which is computed
// anew and compared with the last one in the log. All but the last refuse the
// folder; a digest that differs is a notice, for ZooKeeper itself starts then.
//
// # Damage
//
// A snapshot that is damaged is passed over for the one before it. A log may end
// in a record that was not wholly written: it is cut if nothing valid follows,
// and if it is not the last log, if the next one gives the cut txn's zxid out
// again. Anything else is a DamageError. No length is believed: what is
// allocated grows with the bytes that are there, up to maxBytes a value.
package zkimport
