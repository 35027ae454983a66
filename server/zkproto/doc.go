// Package zkproto is the codec of ZooKeeper's client protocol, in both directions: a server reads
// requests (ReadConnect, Decoder) and appends replies, a client appends requests (AppendConnect,
// AppendRequest) and reads replies (ReadConnected, ReadReply). A server never uses a Body, a client
// never a Decoder.
//
// The package is pure: it converts between bytes and structs. It knows no socket, clock, tree or
// session, starts no goroutine and takes no lock. It checks only the form of the bytes: whether a
// path is valid, a version right or a flag known is for its callers to decide. A Decoder and its
// Request belong to one connection and are used by one goroutine at a time; any goroutine may call
// everything else.
//
// # Bytes
//
// All numbers are signed and big-endian. There are no tags and no padding: a record is its fields,
// one after the other.
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
// Either side sends frames, and nothing else. A length is from 0 to a limit, usually 0xfffff; on
// any other length a server closes the connection without an answer.
//
//	frame         int length | so many bytes
//	connect       int 0 | long lastZxid | int timeoutMS | long session | buffer password [bool readOnly]
//	connected     int 0 | int timeoutMS | long session | buffer password [bool readOnly]
//	request       int xid | int op | body
//	reply         int xid | long zxid | int code | body, if code is 0
//	notification  a reply, xid -1, code 0: int type | int state, 3 | ustring path
//
// The first frame of a client is a connect, the first of a server a connected. Some clients omit
// readOnly; their answer must omit it too. A password has 16 bytes in a connected, any number in a
// connect. A connected of zeros refuses the session. From then on the client sends requests. The
// server sends one reply to each, in their order, with their xid and the last zxid it knows (for a
// write: its own), and notifications between them. A ping has xid -2, and so has its reply in every
// case.
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
// 0 notification, -1 error and -10 createSession are not requests of clients. The fields:
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
// A multi may contain create, delete, setData, check, create2, createContainer and createTTL, a
// multiRead getData and getChildren. The reply to a failed multi has code 0 and an error for each
// of its parts: 0 before the one at fault, -2 after it. The results of createContainer and
// createTTL are of op create2.
//
// Where other servers and clients differ from this, and why, is described at the code that reads
// and writes it. The facts come from ZooKeeper's sources and from tests with ZooKeeper 3.8.0.
package zkproto
