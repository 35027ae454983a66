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
// number of requests may be under way.
//
// Answers go to the outbox, which is filled only under the state lock (in a View
// or a done): no answer shows a change before the events of that change, and
// answers keep the order of the requests. Whoever finds bytes in the outbox and
// nobody sending them sends them: the reader after a burst of requests, or a
// goroutine that Flush starts after a burst of dones. So a burst costs one write
// to the socket, and an idle connection one goroutine.
//
// Locks: the state lock (Backend's) comes before a connection's own, which is a
// leaf: nothing is called while it is held but appending to its buffers.
package frontend
