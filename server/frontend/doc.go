// Package frontend is where clients meet the node: it accepts connections, tells
// the protocols apart by their first bytes, reads requests, submits writes, reads
// the state, and answers in the order of the requests. It knows sockets,
// identities and limits; it does not know how a write is replicated or what a
// request means to the tree.
//
// # One connection
//
// A reader goroutine parses requests as they come. A read with no unanswered
// write of the same connection before it is answered at once, in one View. A
// write is submitted and waits in the connection's queue; a read behind it waits
// there too, and is executed in that write's done: after it, and before the next
// txn of anyone. So a client sees its own writes, in its own order, and any
// number of requests may be under way. A linearizable read waits in the queue for
// its barrier, and the reader holds a write behind it back for so long: submitted,
// it might be applied first and be seen.
//
// Answers go to the outbox, which is filled only under the state lock (in a View
// or a done): no answer shows a change before the events of that change, and
// answers keep the order of the requests. Whoever finds bytes in the outbox and
// nobody sending them sends them: the reader after a burst of requests, or a
// goroutine that Flush starts after a burst of dones. So a burst costs one write
// to the socket, and an idle connection one goroutine and some 6 KiB.
//
// What bounds it: the reader stops while too much is under way or too many
// answers wait (roomy), so a client that does not read is not read from, and is
// closed when it has taken nothing for WriteTime. The answers to what was taken
// before are small, but for those of reads, of which the ones that find the
// outbox full are refused. Rejected: to keep such reads for later, when there is
// room. They would see the writes behind them.
//
// # The end
//
// Only the reader ends a connection in order: it stops reading, waits until all
// it has taken is answered and sent (drain), closes its direction and reads on
// for a moment (linger), so that no reset destroys the last answer. It comes to
// that when the client is done or says QUIT, when the stream cannot be trusted
// any more, behind ERR UNCERTAIN (the outbox is ending: the fate of a write is
// unknown, none behind it may be answered), or when the server stops (retired).
// All else is a break: the outbox is dropped, dones that still come find nobody.
//
// # Statistics
//
// What cons, stat and mntr tell is counted where a lock is held anyway: answers
// and their sizes in the outbox, latencies once a burst (settleReads) or where a
// write is done. The four-letter words (words.go) hold the lock of one connection
// at a time.
//
// # Locks
//
// The state lock (Backend's) comes before a connection's own, which is a leaf:
// while it is held nothing is called but what appends to its buffers. The
// server's lock, around the set of connections, comes before it too, and is never
// taken with the state lock held.
package frontend
