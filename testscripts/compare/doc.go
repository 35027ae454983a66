// Package compare plays the same random sequences of requests to two servers of
// ZooKeeper's protocol and compares what they say, reply by reply and event by
// event. Its test holds coord against a real ZooKeeper; what may differ is in
// docs/compatibility.md.
//
// A sequence follows from its seed alone: a list of Steps over a few connections.
// A Player plays it to one server and writes down what came back as lines of text
// from which all is gone that no two servers can share: session ids are names,
// zxids are ranks, times are compared with the zxids they belong to, sets are
// sorted. Two plays are equal when their lines are.
//
// Order is made, not hoped for: a step is over when its replies are there. An
// event is on its connection's stream before the reply to the write that caused
// it leaves, so it is read before that connection's next reply, whichever
// connection wrote. Where the server itself has no order (the ephemerals of a
// session that ends) all connections are asked for a ping before and after, and
// what came between is sorted.
//
// It has a codec of its own: half of what it sends no client would, and what it
// reads is to be shown as it is.
package compare
