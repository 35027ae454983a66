// Package snapshot defines coord's file of a whole state at one zxid, and the folder in which a node
// keeps such files. Backups, and the snapshots that nodes send each other, have the same format.
//
// It knows nothing about raft, the network or the log: the caller says which index and term the
// state belongs to. A Store belongs to one data folder, and any goroutine may use it. Everything
// else is functions without state.
//
// # The file
//
// Numbers are big-endian, as in msgpack. docs/snapshot-format.md says what each field means and
// which version may change what.
//
//	header   200 bytes, or as many as it says
//	frame    META      the raft configuration
//	frame    COUNTERS  zxid, epoch offset, time, settings
//	frame*   SESSIONS
//	(
//	  frame? ACLTAB    the access lists that the next NODES is the first to use
//	  frame  NODES     znodes, depth-first, children in byte order of their names
//	)*
//	frame*   INDEX     where each ACLTAB and NODES is, and its first path
//	frame    END       counts, digest of the state
//	trailer  104 bytes
//
//	header   0        8  10 12       16   17    18     19   20           24
//	         +--------+--+--+--------+----+-----+------+----+------------+
//	         | magic  |ma|mi| length |kind|codec|cipher|hash| generation |
//	         +--------+--+--+--------+----+-----+------+----+------------+
//	         24          40           56           72          80
//	         +-----------+------------+------------+-----------+----------+
//	         | backup id | cluster id | lineage id | base zxid | end zxid |
//	         +-----------+------------+------------+-----------+----------+
//	         88            104        112        120          128
//	         +-------------+----------+----------+------------+-----------+
//	         | base digest | time min | time max | raft index | raft term |
//	         +-------------+----------+----------+------------+-----------+
//	         136            144              176      184          192        196      200
//	         +--------------+----------------+--------+------------+----------+--------+
//	         | epoch offset | writer version | znodes | data bytes | reserved | CRC32C |
//	         +--------------+----------------+--------+------------+----------+--------+
//
//	frame    0      1       2     6            10        14       18
//	         +------+-------+-----+------------+---------+--------+--------+
//	         | type | flags | seq | stored len | raw len | CRC32C | stored |
//	         +------+-------+-----+------------+---------+--------+--------+
//
//	trailer  0        4             8        16          24
//	         +--------+-------------+--------+-----------+--------------+
//	         | frames | index frame | znodes | raw bytes | index offset |
//	         +--------+-------------+--------+-----------+--------------+
//	         32         36           40           56        88         92       96
//	         +----------+------------+------------+---------+----------+--------+------------+
//	         | sessions | ephemerals | end digest | SHA-256 | reserved | CRC32C | "COORDEND" |
//	         +----------+------------+------------+---------+----------+--------+------------+
//
// The CRC of a frame or trailer also covers the header's CRC, so that no part of one file is
// accepted in another. The SHA-256 covers every byte before it.
//
// # Trust
//
// A file is untrusted until its end. No length in it is allocated before the bytes are there. No
// msgpack is decoded before the frame's CRC and structure have been checked. Nothing unpacks to
// more than its head or the file's header declares (only NODES may be compressed, and the header
// says how many znodes and bytes they hold). A state counts only if its digest, computed anew, is
// the one in the END frame.
//
// None of this protects against forgery: whoever can write files can make a valid one.
package snapshot
