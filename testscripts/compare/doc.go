// Package compare plays the same random sequences of requests to two servers of
// ZooKeeper's protocol and compares their replies and events one by one. Its test
// compares coord with a real ZooKeeper; docs/compatibility.md lists the allowed
// differences.
//
// A seed determines a sequence completely: a list of Steps over a few connections.
// A Player plays it to one server and records the replies as lines of text without
// anything that two servers cannot share: session ids become names, zxids become
// ranks, times are checked against their zxids, sets are sorted. Two plays are
// equal if their lines are.
//
// The order is enforced: a step ends when its replies have arrived. The server puts
// an event on its connection's stream before it sends the reply to the write that
// caused it. So the event is read before that connection's next reply, whichever
// connection wrote. Where the server itself has no order (the ephemerals of a
// session that ends), all connections are pinged before and after, and what arrived
// in between is sorted.
//
// The package has a codec of its own: no client would send half of what it sends,
// and it must show what it reads unchanged.
package compare
