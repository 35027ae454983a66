package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"
)

// Limits that are no settings.
const (
	MaxFrameBytes      = 8 << 20  // of RAFT and FORWARD, unless Config says otherwise
	MaxMessages        = 1024     // of one RAFT frame
	MaxEntries         = 64 << 10 // of one RAFT frame
	MaxQueuedMessages  = 4096     // raft messages that wait for a link; more are dropped
	MaxQueuedForwards  = 16 << 10 // forwards that wait for a link; one more ends it
	MaxQueuedBytes     = 16 << 20 // of either
	MaxRequestBytes    = 64 << 10 //
	MaxAnswerBytes     = 1 << 20  //
	MaxDescriptorBytes = 63 << 10 // of a snapshot
	MaxHalfOpen        = 64       // connections before the verdict
	MaxHalfOpenAddr    = 16       // the same, of one address
	MaxRequests        = 16       // being answered at once
	HandshakeTime      = 5 * time.Second
	DialTime           = time.Second // for one address to accept a connection
	RequestTime        = 10 * time.Second
	BeatTime           = time.Second           // so often a side that has sent nothing for half of it says that it is there
	SilenceTime        = 3 * time.Second       // a connection that says nothing for so long is closed
	ResumeTime         = 30 * time.Second      // a snapshot that was cut waits for its rest
	LeastPause         = 50 * time.Millisecond // before a peer is dialled again
	MostPause          = time.Second
	VerdictTime        = 500 * time.Millisecond // for the redial that says whether a peer is down for certain

	chunkBytes = 256 << 10
	burstBytes = 256 << 10 // a RAFT frame that has so much is closed
	textBytes  = 512       // of a refusal
)

// Identity is who a node is. Name is a label and proves nothing.
type Identity struct {
	Cluster [16]byte // zero while it belongs to none
	Node    uint64
	Boot    uint64
	Name    string
}

// Handler is told what comes from other nodes. Raft and Forward of one link come
// in its order, Up and Down of one node in turn. None of these may wait long: the
// link stands still. What is handed over belongs to the handler.
type Handler interface {
	Raft(from uint64, msgs []*raftpb.Message)
	Forward(from uint64, kind byte, b []byte)
	// Up: this node can send to that one.
	Up(node uint64, theirs Hello)
	// Down ends what Up began. What was sent and not received is lost. It is certain if the
	// connection was reset or ended by the other side, and a redial was refused at once.
	Down(node uint64, certain bool)
	// Snapshot takes a snapshot. r ends with io.EOF when all of it has come and its hash
	// is right, and not before; it outlives cuts of the connection. The sender is told the
	// error. ctx ends with Run.
	Snapshot(ctx context.Context, from uint64, h SnapshotHeader, r io.Reader) error
	// Request answers a node that has proved the secret and may be no member.
	Request(ctx context.Context, theirs Hello, body []byte) ([]byte, error)
	// Refused is told of each handshake that failed because of what one side said.
	Refused(r *Refusal)
}

// Secret is one that no log and no dump shows.
type Secret []byte

// Format writes no secret.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// MarshalText writes none either.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Config of Links. What has no "may" is needed.
type Config struct {
	Self        Identity
	ClusterName string
	Secret      Secret       // may be empty: then proofs prove nothing
	Listen      net.Listener // may be nil: then nobody can dial this node
	Handler     Handler
	Position    func() (index, term uint64) // of the log's last entry; that the node is in, read behind it; 0, 0: no log
	// Floor says up to which index the log of a node is known to have been, whoever leads, and the term of the entry
	// there, 0 if that is not known: who dials with a link or a snapshot and has less, or has never been in that
	// term, is refused (CodeBehind). It is asked before the dialer is
	// asked for its position, so that what a dialer acknowledges meanwhile is never held against it. It must not
	// wait: who asks has proved nothing. May be nil.
	Floor func(node uint64) (index, term uint64)
	// Admit may refuse who dials with a link or a snapshot, after its proof: an id that was removed long ago,
	// a log that is shorter than it was. The position in theirs is of after this node's hello.
	// nil admits, if it is a peer that SetPeer has named. May be nil.
	Admit func(theirs Hello) *Refusal
	// TLS may be nil. Else both sides must show certificates of its roots (RootCAs for those who are
	// dialled, ClientCAs for those who dial), and Certified says whether one is of the node of the hello.
	TLS       *tls.Config
	Certified func(cs tls.ConnectionState, theirs Hello) error
	// Dial may be nil: TCP.
	Dial         func(ctx context.Context, addr string) (net.Conn, error)
	MaxFrame     int   // may be 0: MaxFrameBytes
	SnapshotRate int64 // bytes a second of each snapshot sent; may be 0: no limit
	Logger       zerolog.Logger
}

// Validate says what is missing or impossible.
func (c *Config) Validate() error {
	switch {
	case c.Self.Node == 0:
		return errors.New("peer: a node id of 0")
	case c.ClusterName == "" || len(c.ClusterName) > 255:
		return errors.New("peer: the cluster's name has 1 to 255 bytes")
	case len(c.Self.Name) > 255:
		return errors.New("peer: a node's name has at most 255 bytes")
	case c.Handler == nil || c.Position == nil:
		return errors.New("peer: no handler, or no position")
	case c.TLS != nil && c.Certified == nil:
		return errors.New("peer: TLS, and nobody to say whose a certificate is")
	case c.TLS != nil && c.TLS.GetConfigForClient == nil && c.TLS.ClientCAs == nil, c.TLS != nil && c.TLS.RootCAs == nil:
		return errors.New("peer: TLS, and no authority of its own") // the system's would let anybody ask
	case c.MaxFrame < 0 || c.MaxFrame > 1<<30:
		return fmt.Errorf("peer: a frame of %d bytes", c.MaxFrame)
	}
	return nil
}
