package znode

import "strconv"

// Zxid orders every change of the tree: the high 32 bits are the epoch, the low 32 bits count the txns
// of that epoch from 1. Apply assigns it. It never decreases, and is not the index in the raft log.
type Zxid uint64

// MaxCounter is the last counter of an epoch.
const MaxCounter = 1<<32 - 1

// MakeZxid combines an epoch and a counter.
func MakeZxid(epoch, counter uint32) Zxid { return Zxid(uint64(epoch)<<32 | uint64(counter)) }

// Epoch is the high half.
func (z Zxid) Epoch() uint32 { return uint32(z >> 32) }

// Counter is the low half.
func (z Zxid) Counter() uint32 { return uint32(z) }

// String prints as ZooKeeper's tools do: 0x and lower-case digits.
func (z Zxid) String() string { return Hex(uint64(z)) }

// Hex prints a zxid, session id or token: 0x and lower-case digits.
func Hex(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }
