// Package frontend serves the clients of a node. It accepts connections, detects the protocol from the first bytes,
// reads requests, submits writes, executes reads, answers in the order of the requests, and delivers the events
// that clients watch, wait for and lock on. It owns sockets, identities, sessions and limits. It does not know how
// a write is replicated or what a request means to the tree.
//
// # Dialects
//
// The first bytes of a connection select its dialect: the text protocol (textConn), ZooKeeper's protocol (zkConn),
// or a four-letter word. Everything else about a connection (conn) is common to both protocols: a reader, a queue
// of requests that wait for their turn, an outbox, identities, a session. A dialect parses requests from the
// received bytes, and encodes answers and events. So the promises below hold across all clients, and a client may
// resume its session in the other protocol.
//
// # One connection
//
// A reader goroutine parses requests as they arrive. If no earlier write of the connection is unanswered, a read is
// answered at once, in one View. A write is submitted and waits in the connection's queue. A read after it waits in
// the queue too, and is executed in that write's done: after the write, and before the next txn of any client. So a
// client sees its own writes, in its own order, and may pipeline any number of requests. A linearizable read waits
// in the queue for its barrier, and until then the reader holds back the next write: if that write were submitted,
// it might be applied first, and the read would see it. WAIT and LOCK are such barriers too, and may last a day.
//
// Answers go to the outbox, which is filled only under the state lock (in a View or a done). So no answer shows a
// change before the events of that change, and answers keep the order of the requests. Whoever finds bytes in the
// outbox that nobody is sending sends them: the reader after a burst of requests, a goroutine that Flush starts
// after a burst of dones, or the crier if the outbox holds only events. So a burst costs one write to the socket.
// Buffers and parsers are borrowed: an idle connection has a goroutine and 1 KB.
//
// The load of one connection is bounded. The reader stops while too many requests are in flight or too many answers
// wait (roomy), so the server does not read from a client that does not read, and closes a client that has taken
// nothing for WriteTime. Answers to requests that were accepted before that are small, except those to reads; a
// read that finds the outbox full is refused. Rejected: deferring such reads until there is room. They would see
// the writes after them.
//
// Some requests wait until nothing else is in flight on their connection (isAlone): those that create, move or end
// a session, a replay, INFO and SNAPSHOT. An ADMIN waits for its turn; then a goroutine of its own has the node
// execute it, while it stands in the queue as a barrier. While the reader waits and a WAIT or LOCK is unanswered,
// the server asks the kernel, at once and then every PeerTime, whether the client is still there (watchPeer),
// because nothing else would notice. And whenever the reader waits or sends, and the session needs pings, the
// server asks the kernel whether bytes have arrived (lookOut).
//
// # Events
//
// Each watch of a text client is a watch.Watcher of its own. It is armed in the View that answers its request, so
// no event is lost or told too early. Notify puts the EVENT into the outbox before the dones of that txn and of all
// later txns append their answers. UNWATCH ends the watch before it puts its reply there. The stream of a snapshot
// holds EVENTs back until its end, and nothing follows the bytes of a CAT.
//
// The server waits for a client that does not take its answers, but not for one that does not take its events,
// since other clients cause them. Such a client falls behind (lag.go): it is served from the history that
// watch.Table keeps, one page at a time, each in one View. A watch with since begins in this way. A client with too
// many watches for that is cut off: when MaxEventBytes wait for it, or MaxAllEventBytes for all clients together,
// ERR SLOWCLIENT is its last line.
//
// For ZooKeeper's clients the connection is the watcher, and a watch has no id. They do not fall behind: their
// watches are usually one-shot.
//
// # Waits and locks
//
// A WAIT begins when its turn in the queue comes: it checks its condition, and watches if the condition does not
// hold. Notify sees the condition become true; the answer is made by a View after the burst (Flush) or by the next
// done. A timer ends the WAIT at its timeout; a server that stops ends it too. A client that closes its sending
// side still gets its answer.
//
// A LOCK is an ephemeral sequential znode in a folder; lock.go says how the line of waiters advances. When a LOCK
// is given up, for whatever reason, the first attempt to delete its znode comes before the answer, and attempts go
// on until the znode is gone. A LOCK that is granted when its client can no longer be told is released. A session
// that moves to another connection and asks again takes over the znode and its place in the line (locks); this is
// the only exception.
//
// # Sessions
//
// A session is part of the tree. Sessions decides when it expires, and the watch table records which connection
// serves it. The table's record settles all races: the connection that attaches to the table last has the session.
// The previous connection is told (lose), and then Sessions. A connection that is no longer in the table neither
// detaches nor ends the session. If a session ends other than by its own connection's CLOSE, its connection ends
// too, after EVENT expired.
//
// # The end
//
// Only the reader ends a connection in order. It stops reading, waits until every request it has taken is answered
// and sent (drain), leaves its session and drops its watches and waits (endLive), closes its sending side, and
// reads on for a moment (linger) so that no reset destroys the last answer. This happens when the client is done or
// says QUIT; when the stream cannot be trusted any more; after a last line, after which nothing is answered
// (ending: ERR UNCERTAIN, because the fate of a write is unknown and no later request may be answered; ERR
// SLOWCLIENT; EVENT expired and moved; the bytes of a CAT), or without one (dismiss); or when the server stops
// (retired). A dismissal and a stop of the server end no session. Every other end is a break: the outbox is
// dropped, and dones that still come find the connection broken.
//
// # Statistics
//
// The figures of cons, stat and mntr are counted where a lock is held anyway: answers and their sizes in the
// outbox, latencies once per burst (settleReads) or when a write is done. The four-letter words (words.go) hold the
// lock of one connection at a time.
//
// # A node of an ensemble
//
// If a write is lost on its way to the leader, no write submitted after it over the same connection may succeed.
// The replica ensures that (its package comment, Forwarded writes) and relies on the frontend for this: the check
// whether the conversation goes on, and the submission of a write, happen under one hold of the connection's lock,
// and the done of a lost write ends the conversation under that lock. Txns that are not requests of the client are
// exempt: the end of a session whose connection has ended, and the deletion of the znode of a LOCK that is given
// up.
//
// ERR UNCERTAIN is the last line of a connection; NOLEADER is an ordinary answer. For ZooKeeper's clients both are
// a connection loss: the connection is closed without a reply. The answer that a session does not exist is given
// only after a barrier, because this node may not have heard of the session yet. When the session of a LOCK has
// moved to another node, the znode belongs to that node: this node deletes it only through the attachment by which
// it had the session.
//
// When there has been no leader for long (SetLeaderless), the clients of ZooKeeper's protocol are dismissed. So is
// every client that has missed events because a snapshot has replaced the state (Replaced). A dismissed connection
// ends without a word; its session does not end. Before a node serves, a Doorman answers on its ports.
//
// # Locks
//
// The lock order is: the state lock (Backend's); the server's lock, around the set of connections; a connection's
// own lock; and then leaf locks: the watch table's, that of locks, those of Sessions, and those of Backend's
// queues. So Submit and Barrier may be called with any of these held, and run no done themselves.
package frontend
