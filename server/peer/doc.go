// Package peer is coord's sync protocol between the nodes of a cluster: how bytes
// travel, never who decides. It dials the peers it is told of, proves the secret to
// them and asks them for theirs, carries raft's messages, forwarded bytes, snapshots
// and single requests, and says who can be reached. docs/sync-protocol.md draws
// every byte; in short:
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
// Each node dials each peer, and sends on what it has dialled. One connection for
// both directions would need a rule for two that are dialled at once, and such rules
// close both, or keep the dead one; two connections cost a socket. It also makes
// "up" exact: this node can send to that one.
//
// It is not a member list (SetPeer and RemovePeer tell it), knows no raft but the
// message's form, and keeps nothing on disk. Nothing of another node comes to the
// Handler before both have proved the secret and each other's identity.
//
// Raft, Forward, SetPeer, RemovePeer, SetCluster and Stats may be called by any
// goroutine and never wait. Request and SendSnapshot wait and belong to a goroutine
// that has time.
package peer
