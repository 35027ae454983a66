// Package restore brings a backup back into the data folder of a node that does
// not run, makes such a node go on alone, and reads its folder for a backup
// (Snapshot). It decides nothing
// about flags or exit codes (cmd does), and its functions keep no state: any
// goroutine may call them, for the locks are in the file system.
//
// # The order of work
//
// Nothing is written before the backup has been read whole and the new state is
// ready in memory:
//
//  1. options and the target's path are checked
//  2. the target is looked at: what is in it, who uses it (its lock is taken);
//     an earlier restore that was interrupted is ended
//  3. the header and the trailer of the backup are read: kind, version
//  4. free space
//  5. the backup is read whole: every checksum, every record, and the digest of
//     the state that came out, before anything in that state is changed
//  6. the folder to be replaced is read: newest good snapshot, log behind it
//  7. the new state is made from both (see below)
//  8. Options.Confirm is shown the plan; a dry run ends here
//  9. the plan file is made and locked; the target must still be as it was
//  10. the new folder is built aside: snapshot, empty log, report
//  11. its identity is written, the last file; all of it is fsynced
//  12. the new folder is opened and read as a start would
//  13. the plan file says "swap", durably; from here on only forwards
//  14. the folders are exchanged, names fsynced
//  15. the target is opened once more, the report completed, the plan removed
//
// An error or a kill before 13 leaves the target as it was; at a kill the rest
// (plan file, folder aside) stays until Recover, which every server start and
// every restore calls, removes it. After 13 Recover completes the exchange. So
// the target is always the old folder or the new one, whole.
//
// # Names
//
// Usually all is beside the target D, so that the exchange is one rename:
//
//	D.restore-ID       the new folder while it is built
//	D.pre-restore-ID   the old folder, kept until somebody removes it
//	D.restore-plan     the plan file
//
// Where D cannot be renamed (it is a mount point, it holds lost+found, nothing
// may be made beside it) the same lies in D, and identity, wal and snapshot move
// one by one, the old identity first and the new one last:
//
//	D/restore-ID.new   D/pre-restore-ID   D/restore-plan
//
// The new folder's report is D/restore-ID.json in both.
//
// The plan file has one or two lines, each JSON, a space and its CRC-32C: what
// the restore is, and that the exchange has begun. It is appended to, never
// replaced, so that the lock on it is a lock on its name. datadir.Open refuses a
// folder with a plan file, before it makes the folder and again once it has the
// lock: the old folder, the new one and the moment between are all closed.
//
// # Clocks
//
// No client may see a clock go back: not the zxid, not the version of a znode,
// not the number in a sequential name. The restore is an epoch of its own, above
// every epoch in the backup and in the replaced folder, and leaves the state as
// if it had been written in that epoch at raft's index 1, term 1.
//
// What the clients last saw is known if the replaced folder is whole, is that
// of the backup's own cluster, of its only voter, and is not older than the
// backup. Then a znode that is the same in both (same creation, same last write)
// stays as it is; one that differs gets the higher version of the two plus one;
// counters of created children get the higher of the two, and more if the
// cversion would fall otherwise.
//
// For everything else (no folder, another cluster's, damaged, a znode that was
// deleted or made anew since the backup) clients may have seen any later state.
// Then versions, ACL versions and counters advance beyond the backup's by
// VersionAdvance and SequenceAdvance, the epoch by EpochAdvance, and all end up
// above the replaced folder's: just above if that is whole, by the same advance
// if not. That is so for every znode: one that the backup knows with version 0
// may have had version 3 yesterday, with other data, and a compare-and-set that
// still waits somewhere must fail; one without children may have handed out
// numbers since. (The price: a counter costs a leaf 64 bytes of memory. Leaving
// leaves out was rejected: a lock folder that was new at the time of the backup
// would give its numbers out twice.)
//
// A znode that may differ from what clients saw has the restore's zxid as mzxid
// (data) and pzxid (children): "changed since?" is answered with yes. czxid,
// ctime and mtime are history and stay. With Options.Exact all this is left out
// but for the epoch: for a copy that no client of the original will meet.
//
// Sessions of a backup are over. Each is closed by a txn of the restore's epoch
// in tree.Apply, like any session's end: its ephemerals go, the parents' cversion
// and pzxid and the quotas' usage follow. The report lists them.
//
// # ZooKeeper
//
// An import (Options.ZooKeeper) is a restore whose backup is the folder of a
// stopped ZooKeeper, read by package zkimport; it takes the place of the steps 3
// and 5. The folder is what its clients saw last, so versions and counters stay as
// they are and the epoch is the next one; but for a member of an ensemble, of
// which others may have elected later leaders, it advances by EpochAdvance. The
// data has no lineage yet: the new cluster's own begins. /zookeeper/config, which
// names servers that are not there any more, is emptied.
//
// # Lost quorum
//
// Where a majority of an ensemble's voters is gone for good, one node that is left
// goes on alone (Options.LostQuorum): its folder is both the backup and what is
// replaced. It is a new cluster with this node, under a new id, as the only voter,
// so that no member of the old one can mix in. The state is the newest good
// snapshot and every intact entry behind it, committed or not: some of those that
// this node did not know to be committed may have been, by voters that are gone,
// and their clients have the answer. The price is that a write of which nobody ever
// heard may appear. Rejected: to keep what is known to be committed and no more, as
// etcd does; it loses acknowledged writes.
//
// The others may also have known more: a later epoch, writes that never came here.
// So clocks advance as they do where the clients' last state is unknown, and
// sessions end: one whose lock the lost members had in their logs, and this one not,
// would else go on to believe in it.
package restore
