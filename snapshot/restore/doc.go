// Package restore restores a backup into the data folder of a node that does not run, makes such a
// node continue alone, and reads its folder for a backup (Snapshot). It decides nothing about flags
// or exit codes (cmd does). Its functions keep no state, and any goroutine may call them, because
// the locks are in the file system.
//
// # The order of work
//
// Nothing is written before the backup has been read completely and the new state is ready in memory:
//
//  1. options and the target's path are checked
//  2. the target is examined: its contents, and who uses it (its lock is taken); an
//     earlier restore that was interrupted is completed or undone
//  3. the header and the trailer of the backup are read: kind, version
//  4. free space
//  5. the backup is read completely: every checksum, every record, and the digest of
//     the resulting state, before anything in that state is changed
//  6. the folder to be replaced is read: newest good snapshot, and the log after it
//  7. the new state is made from both (see below)
//  8. Options.Confirm gets the plan; a dry run ends here
//  9. the plan file is created and locked; the target must not have changed since 2
//  10. the new folder is built aside: snapshot, empty log, report
//  11. its identity is written as the last file; all of it is fsynced
//  12. the new folder is opened and read as a start would
//  13. the plan file says "swap", durably; from here on there is no way back
//  14. the folders are exchanged, names fsynced
//  15. the target is opened once more, the report completed, the plan removed
//
// An error or a kill before step 13 leaves the target as it was. After a kill, the plan file and the
// folder aside stay until Recover removes them; every server start and every restore calls it. After step
// 13 Recover completes the exchange. So the target is always the old folder or the new one, complete.
//
// # Names
//
// Usually all names are beside the target D, so that the exchange is one rename:
//
//	D.restore-ID       the new folder while it is built
//	D.pre-restore-ID   the old folder, kept until somebody removes it
//	D.restore-plan     the plan file
//
// Where D cannot be renamed (it is a mount point, it holds lost+found, nothing may be created
// beside it), the same names are in D, and identity, wal and snapshot move one by one, the old
// identity first and the new one last:
//
//	D/restore-ID.new   D/pre-restore-ID   D/restore-plan
//
// In both cases the new folder's report is D/restore-ID.json.
//
// The plan file has one or two lines, each of them JSON, a space and its CRC-32C: what the restore is,
// and that the exchange has begun. It is appended to and never replaced, so that the lock on the file
// is a lock on its name. datadir.Open refuses a folder with a plan file, before it creates the folder
// and again once it has the lock: the old folder, the new one and the moment in between are all closed.
//
// # Clocks
//
// No client may see a clock go back: not the zxid, not the version of a znode, not the number in a
// sequential name. The restore is an epoch of its own, above every epoch in the backup and in the replaced
// folder. It leaves the state as if that had been written in this epoch at raft's index 1, term 1.
//
// What the clients last saw is known if the replaced folder is complete, is that of the backup's
// own cluster and of its only voter, and is not older than the backup. Then a znode that is the
// same in both (same creation, same last write) stays as it is. A znode that differs gets the
// higher version of the two plus one. Counters of created children get the higher of the two, and
// more if the cversion would decrease otherwise.
//
// In all other cases (no folder, another cluster's folder, a damaged one, a znode that was deleted
// or created again since the backup), clients may have seen any later state. Then versions, ACL
// versions and counters advance beyond the backup's by VersionAdvance and SequenceAdvance, the
// epoch by EpochAdvance. All end up above the replaced folder's: just above if that folder is
// complete, by the same advance if not. That applies to every znode: one with version 0 in the
// backup may have had version 3 yesterday, with other data, and a compare-and-set that still waits
// somewhere must fail; one without children may have handed out numbers since. (The price: a
// counter costs a leaf 64 bytes of memory. Rejected: to leave out leaves; a lock folder that was
// new at the time of the backup would hand out its numbers twice.)
// A znode that may differ from what clients saw has the restore's zxid as mzxid (data) and pzxid
// (children), so that a client that asks whether it has changed gets yes. czxid, ctime and mtime
// are history and stay. With Options.Exact all this is left out except for the epoch: for a copy
// that no client of the original will meet.
//
// Sessions of a backup are over. Each is closed by a txn of the restore's epoch in tree.Apply, like
// any session: its ephemerals are deleted, and the parents' cversion and pzxid and the quotas'
// usage follow. The report lists the sessions.
//
// # ZooKeeper
//
// An import (Options.ZooKeeper) is a restore whose backup is the folder of a stopped ZooKeeper,
// read by package zkimport in place of steps 3 and 5. The folder is what its clients saw last, so
// versions and counters stay as they are, and the epoch is the next one. For a member of an
// ensemble the epoch advances by EpochAdvance, because the other members may have elected later
// leaders. The data has no lineage yet, so the new cluster's own begins. /zookeeper/config, which
// names servers that no longer exist, is emptied.
//
// # Lost quorum
//
// If a majority of an ensemble's voters is gone for good, one remaining node can continue alone
// (Options.LostQuorum): its folder is both the backup and what is replaced. It becomes a new cluster
// with this node, under a new id, as the only voter, so that no member of the old one can mix in. The
// state is the newest good snapshot and every intact entry after it, committed or not: some entries
// that this node did not know to be committed may have been committed by voters that are gone, and
// their clients have the answers. The price is that a write of which nobody ever heard may appear.
// Rejected: to keep only what is known to be committed, as etcd does; that loses acknowledged writes.
//
// The others may also have known more: a later epoch, or writes that never arrived here. So clocks
// advance as they do where the clients' last state is unknown, and sessions end: a client whose lock is
// in the lost members' logs but not in this one would otherwise still believe that it holds the lock.
package restore
