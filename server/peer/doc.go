// Package peer is coord's sync protocol between the nodes of a cluster: how bytes travel, never who
// decides. It dials the peers it is given, proves the secret to them and has them prove it too. It
// carries raft's messages, forwarded bytes, snapshots and single requests, and reports which peers
// can be reached. docs/sync-protocol.md draws every byte; in short:
//
//	connection  dialer: magic hello proof frame…       acceptor: magic hello verdict frame…
//	step        type 1 | length 2 | body               before the verdict; body at most 1,024
//	frame       length 4 | type 1 | half a CRC-32C 2 | CRC-32C 4 | payload
//	            CRCs of: sequence 8 | length | type, and of these and the payload; the sequence is not sent
//	RAFT        {uvarint length | message} …
//	message     type 1 | mask 2 | what the mask says
//	FORWARD     kind 1 | bytes
//	snapshot    OFFER → RESUME ← CHUNK … END → DONE ←
//
// Each node dials each peer, and sends on the connection that it has dialled. A single connection
// for both directions would need a rule for two that are dialled at once, and such rules close both
// or keep the dead one; two connections cost one more socket. They also make "up" exact: this node
// can send to that one.
//
// The package keeps no member list (SetPeer and RemovePeer name the peers), knows nothing of raft
// but the form of its messages, and keeps nothing on disk. The Handler gets nothing from another
// node before both nodes have proved the secret and checked each other's identity.
//
// Any goroutine may call Raft, Forward, SetPeer, RemovePeer, SetCluster and Stats; they never wait.
// Request and SendSnapshot wait, so the calling goroutine must have time.
package peer
