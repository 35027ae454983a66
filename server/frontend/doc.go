// Package frontend is where clients meet the node: it accepts connections, tells
// the protocols apart by their first bytes, reads requests, submits writes, reads
// the state, answers in the order of the requests, and tells what clients watch,
// wait for and hold. It knows sockets, identities, sessions and limits; it does not
// know how a write is replicated or what a request means to the tree.
//
// # Dialects
//
// The first bytes tell what a client speaks: the text protocol (textConn), ZooKeeper's
// (zkConn), or a four-letter word. What a connection is beside that (conn) is the same:
// a reader, a queue of requests that wait for their turn, an outbox, identities, a
// session. A dialect takes requests from what was received, and writes answers and
// events. So the promises below hold for all clients together, and a session may come
// back in the other protocol.
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
// it might be applied first and be seen. WAIT and LOCK are such barriers too, and
// may last a day.
//
// Answers go to the outbox, which is filled only under the state lock (in a View
// or a done): no answer shows a change before the events of that change, and
// answers keep the order of the requests. Whoever finds bytes in the outbox and
// nobody sending them sends them: the reader after a burst of requests, a
// goroutine that Flush starts after a burst of dones, or, if there are events and
// nothing else, the crier. So a burst costs one write to the socket. Buffers and
// parsers are borrowed: an idle connection has a goroutine and 1 KB.
//
// What bounds it: the reader stops while too much is under way or too many
// answers wait (roomy), so a client that does not read is not read from, and is
// closed when it has taken nothing for WriteTime. The answers to what was taken
// before are small, but for those of reads, of which the ones that find the
// outbox full are refused. Rejected: to keep such reads for later, when there is
// room. They would see the writes behind them.
//
// Some requests are for a connection on which nothing is under way: what makes,
// moves or ends a session, a replay, INFO and SNAPSHOT wait for that (isAlone). An ADMIN
// waits for its turn; then a goroutine of its own has the node do it, and it stands in
// the queue as a barrier meanwhile. While the reader waits and a WAIT or LOCK is unanswered, the kernel is asked at
// once and every PeerTime whether the client is still there (watchPeer): nobody else would
// notice. And whenever it waits or sends, and the session is one that needs pings, the
// kernel is asked whether any have come (lookOut).
//
// # Events
//
// Each watch of a client of the text protocol is a watch.Watcher of its own, armed in the View that
// answers its request: no event is lost or told too early. Notify puts the EVENT
// into the outbox, before the dones of that txn and of all later ones add their
// answers. UNWATCH ends the watch before it puts its reply there. The stream of a
// snapshot keeps EVENTs back until its end, and behind a CAT there is nothing.
//
// A client that does not take its events is not waited for, as it is with answers,
// since others cause them: it falls behind (lag.go) and is told from what watch.Table
// remembers, a page at a time, each in one View. A watch with since begins so. One with
// too many watches is cut off: with MaxEventBytes waiting, or MaxAllEventBytes for all
// clients, ERR SLOWCLIENT is its last line.
//
// Of ZooKeeper's clients the connection is the watcher, and a watch has no id. They do
// not fall behind: their watches are one-shot as a rule.
//
// # Waits and locks
//
// A WAIT begins when its turn in the queue comes: it looks, and if it has not come
// about it watches. Notify sees it come about; a View after the burst (Flush), or
// the next done, answers. A timer gives it up. So does the server when it stops; a
// client that closes its side still gets its answer.
//
// A LOCK is an ephemeral sequential znode in a folder: lock.go says how the line
// moves. Whoever gives a LOCK up, for whatever reason, has its znode deleted before
// the answer, and tries until it is gone. What a LOCK gets when nobody can be told
// any more it gives back. Only a session that moves to another connection and asks
// again takes the place in the line with it (locks).
//
// # Sessions
//
// A session is the tree's; Sessions decides when its time is over, and the watch
// table knows which connection serves it. That is the truth that settles all races:
// whoever comes to the table last has the session, says so to the one before (lose),
// and then to Sessions; whoever is not in the table any more neither detaches nor
// ends it. A session that ends otherwise than by its own connection's CLOSE ends the
// connection, behind EVENT expired.
//
// # The end
//
// Only the reader ends a connection in order: it stops reading, waits until all
// it has taken is answered and sent (drain), leaves its session and forgets what it
// watches and waits for (endLive), closes its direction and reads on for a moment
// (linger), so that no reset destroys the last answer. It comes to that when the
// client is done or says QUIT, when the stream cannot be trusted any more, behind
// a last line after which nothing is answered (ending: ERR UNCERTAIN, as the fate
// of a write is unknown and none behind it may be answered; ERR SLOWCLIENT; EVENT
// expired and moved; the bytes of a CAT), or without one (dismiss), or when the server
// stops (retired); the latter two end no session. All else is a break: the outbox is
// dropped, dones that still come find nobody.
//
// # Statistics
//
// What cons, stat and mntr tell is counted where a lock is held anyway: answers
// and their sizes in the outbox, latencies once a burst (settleReads) or where a
// write is done. The four-letter words (words.go) hold the lock of one connection
// at a time.
//
// # A node of an ensemble
//
// If a write is lost on the way to the leader, nothing that was submitted behind it
// over the same connection may succeed. The replica sees to that (its package
// comment, Forwarded writes) and relies on this: whether the conversation goes on is
// looked at, and the write submitted, under one hold of the connection's lock, and
// the done of a lost write ends the conversation under that lock. What is no request
// of the client's is exempt: the end of a session whose connection has ended, and the
// deletion of the znode of a LOCK that is given up.
//
// ERR UNCERTAIN is the last line of a connection; NOLEADER is an answer like others.
// To ZooKeeper's clients both are a connection loss: closed, without a reply. That a
// session does not exist is said behind a barrier only: this node may not have heard of
// it yet. A LOCK whose session has gone to another node leaves its znode to that one:
// it is deleted through the attachment by which this node had the session.
//
// Without a leader for long (SetLeaderless) the clients of ZooKeeper's protocol are
// dismissed, and so is who has missed events because a snapshot has replaced the
// state (Replaced): the connection ends without a word, its session does not. Before
// a node serves, a Doorman answers at its ports.
//
// # Locks
//
// The order is: the state lock (Backend's), the server's, around the set of
// connections, a connection's own, and then leaves: the watch table's, the one of
// locks, Sessions' own, and those of Backend's queues, so that Submit and Barrier are
// called with any of these held, and run no done themselves.
package frontend
