// Package zkproto is the codec of ZooKeeper's client protocol, in both
// directions: a server reads requests (ReadConnect, Decoder) and appends replies,
// a client appends requests (AppendConnect, AppendRequest) and reads replies
// (ReadConnected, ReadReply). A server never meets a Body, a client never a
// Decoder.
//
// It is pure: bytes to structs and back. It knows no socket, clock, tree or
// session, starts nothing and locks nothing. It judges what the bytes allow and
// nothing else: whether a path is one, a version right or a flag known is for
// others to say. A Decoder and its Request belong to one connection and are used
// by one goroutine at a time; everything else may be called by any.
//
// # Bytes
//
// All numbers are signed and big-endian. There are no tags and no padding: a
// record is its fields, one behind the other.
//
//	bool     1 byte, 0 or 1
//	int      4 bytes
//	long     8 bytes
//	ustring  int length, so many bytes of UTF-8; length -1 is null
//	buffer   int length, so many bytes; length -1 is null
//	[]T      int count, so many T; count -1 is null
//
// # Frames
//
// Either side sends frames, and nothing else. A length is 0 to a limit, as a
// rule 0xfffff; a server closes the connection on another one, and says nothing.
//
//	frame         int length | so many bytes
//	connect       int 0 | long lastZxid | int timeoutMS | long session | buffer password [bool readOnly]
//	connected     int 0 | int timeoutMS | long session | buffer password [bool readOnly]
//	request       int xid | int op | body
//	reply         int xid | long zxid | int code | body, if code is 0
//	notification  a reply, xid -1, code 0: int type | int state, 3 | ustring path
//
// The first frame of a client is a connect, the first of a server a connected.
// Some clients leave readOnly away; they are to get an answer without it. A
// password is 16 bytes in a connected, any number in a connect. A connected of
// zeros refuses the session. From then on the client sends requests, the server
// one reply to each, in their order, with their xid and the last zxid it knows
// (of a write: its own), and notifications between them. A ping has xid -2, and
// its reply always.
//
// # Operations
//
//	op                        request                           reply
//	  1 create                path data acl flags               path
//	  2 delete                path version
//	  3 exists                path watch                        stat
//	  4 getData               path watch                        data stat
//	  5 setData               path data version                 stat
//	  6 getACL                path                              acl stat
//	  7 setACL                path acl version                  stat
//	  8 getChildren           path watch                        []ustring
//	  9 sync                  path                              path
//	 11 ping
//	 12 getChildren2          path watch                        []ustring stat
//	 13 check                 path version                      no client sends it but in a multi
//	 14 multi                 parts                             results
//	 15 create2               path data acl flags               path stat
//	 16 reconfig              joining leaving members config    data stat
//	 17 checkWatches          path type
//	 18 removeWatches         path type
//	 19 createContainer       path data acl flags               path stat
//	 20 deleteContainer                                         refused
//	 21 createTTL             path data acl flags ttl           path stat
//	 22 multiRead             parts                             results
//	100 auth                  0 scheme data
//	101 setWatches            zxid lists3
//	102 sasl                  data                              data
//	103 getEphemerals         prefix                            []ustring
//	104 getAllChildrenNumber  path                              int
//	105 setWatches2           zxid lists5
//	106 addWatch              path mode                         int 0
//	107 whoAmI                                                  []{ustring scheme | ustring name}
//	-11 closeSession
//
// 0 notification, -1 error and -10 createSession are no
// requests of clients. The fields:
//
//	path prefix scheme joining leaving members   ustring
//	data                                         buffer
//	acl                                          []{int perms | ustring scheme | ustring id}
//	flags version type mode 0                    int
//	watch                                        bool
//	ttl config zxid                              long
//	lists3                                       []ustring data | []ustring exists | []ustring children
//	lists5                                       lists3 | []ustring persistent | []ustring persistent recursive
//	stat                                         long czxid | long mzxid | long ctimeMS | long mtimeMS | int version |
//	                                             int cversion | int aversion | long ephemeralOwner | int dataLength |
//	                                             int numChildren | long pzxid
//	parts                                        {head op, 0, -1 | body of op} … head -1, 1, -1
//	results                                      {head op, 0, 0 | body of op's reply, or head -1, 0, code | int code} … head -1, 1, -1
//	head                                         int op | bool done | int code
//
// In a multi stand create, delete, setData, check, create2, createContainer and
// createTTL, in a multiRead getData and getChildren. A multi that fails has code
// 0 in its reply and an error for each of its parts: 0 before the one at fault,
// -2 behind it. The results of createContainer and createTTL are of op create2.
//
// What foreign servers and clients do beyond that, where they differ and why, is
// in the comments of what reads and writes it. The facts are of ZooKeeper's sources
// and of a ZooKeeper 3.8.0 that was asked.
package zkproto
