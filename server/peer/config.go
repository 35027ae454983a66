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

// Limits that cannot be configured.
const (
	MaxFrameBytes      = 8 << 20  // of RAFT and FORWARD, unless Config says otherwise
	MaxMessages        = 1024     // of one RAFT frame
	MaxEntries         = 64 << 10 // of one RAFT frame
	MaxQueuedMessages  = 4096     // raft messages waiting for a link; more are dropped
	MaxQueuedForwards  = 16 << 10 // forwards waiting for a link; one more ends the link
	MaxQueuedBytes     = 16 << 20 // of raft messages, and of forwards
	MaxRequestBytes    = 64 << 10 // of a REQUEST
	MaxAnswerBytes     = 1 << 20  // of the answer in an ANSWER
	MaxDescriptorBytes = 63 << 10 // of a snapshot
	MaxHalfOpen        = 64       // connections without a verdict yet
	MaxHalfOpenAddr    = 16       // the same, from one address
	MaxRequests        = 16       // being answered at once
	HandshakeTime      = 5 * time.Second
	DialTime           = time.Second // for one address to accept a connection
	RequestTime        = 10 * time.Second
	BeatTime           = time.Second           // between checks: a side that has sent nothing for half of it sends a BEAT
	SilenceTime        = 3 * time.Second       // a connection on which nothing arrives for this long is closed
	ResumeTime         = 30 * time.Second      // how long an interrupted snapshot waits for its rest
	LeastPause         = 50 * time.Millisecond // before a peer is dialled again; grows to MostPause
	MostPause          = time.Second
	VerdictTime        = 500 * time.Millisecond // for the redial that decides whether a peer is down for certain

	chunkBytes = 256 << 10
	burstBytes = 256 << 10 // a RAFT frame with this many bytes takes no more messages
	textBytes  = 512       // of a refusal
)

// Identity says which node a node is. Name is a label and proves nothing.
type Identity struct {
	Cluster [16]byte // zero while the node belongs to none
	Node    uint64
	Boot    uint64
	Name    string
}

// Handler receives what comes from other nodes. Raft and Forward calls of one link come in the
// order of that link; Up and Down of one node alternate. None of these may wait long: they hold up
// the link. The handler owns what it is given.
type Handler interface {
	Raft(from uint64, msgs []*raftpb.Message)
	Forward(from uint64, kind byte, b []byte)
	// Up reports that this node can send to that one.
	Up(node uint64, theirs Hello)
	// Down ends what Up began. What was sent and not received is lost. It is certain that the node
	// is down if the connection was reset or ended by the other side, and a redial was refused at
	// once.
	Down(node uint64, certain bool)
	// Snapshot takes a snapshot. r returns io.EOF only after the whole snapshot has arrived and its
	// hash is right; r goes on across interruptions of the connection. The sender receives the
	// error. ctx ends with Run.
	Snapshot(ctx context.Context, from uint64, h SnapshotHeader, r io.Reader) error
	// Request answers a node that has proved the secret but need not be a member.
	Request(ctx context.Context, theirs Hello, body []byte) ([]byte, error)
	// Refused reports each handshake that failed because of what one side said.
	Refused(r *Refusal)
}

// Secret is a secret that appears in no log and no dump.
type Secret []byte

// Format writes a placeholder instead of the secret.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// MarshalText returns the same placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Config of Links. A field is required unless its comment says "may".
type Config struct {
	Self        Identity
	ClusterName string
	Secret      Secret       // may be empty: then proofs prove nothing
	Listen      net.Listener // may be nil: then nobody can dial this node
	Handler     Handler
	Position    func() (index, term uint64) // index of the log's last entry, then the term that the node is in, read after the index; 0, 0: no log
	// Floor returns the index up to which the log of a node is known to have had entries, whoever leads, and the
	// term of the entry there, 0 if that is not known. A node that dials with a link or a snapshot is refused
	// (CodeBehind) if its log ends before that index, or it has never been in that term. Floor is called before the
	// dialer is asked for its position, so that what the dialer acknowledges meanwhile is never held against it. It
	// must not wait: the dialer has proved nothing yet. May be nil.
	Floor func(node uint64) (index, term uint64)
	// Admit may refuse a node that dials with a link or a snapshot, after its proof: one whose id was removed
	// long ago, or whose log is shorter than it was. The position in theirs was taken after this node's
	// hello. If Admit returns nil, the dialer is admitted if SetPeer has named it. May be nil.
	Admit func(theirs Hello) *Refusal
	// TLS may be nil. Otherwise both sides must show certificates from its roots (RootCAs for nodes that
	// are dialled, ClientCAs for dialers), and Certified says whether a certificate belongs to the node
	// in the hello.
	TLS       *tls.Config
	Certified func(cs tls.ConnectionState, theirs Hello) error
	// Dial may be nil: then it is TCP.
	Dial         func(ctx context.Context, addr string) (net.Conn, error)
	MaxFrame     int   // may be 0: MaxFrameBytes
	SnapshotRate int64 // bytes a second of each snapshot sent; may be 0: no limit
	Logger       zerolog.Logger
}

// Validate says which field is missing or impossible.
func (c *Config) Validate() error {
	switch {
	case c.Self.Node == 0:
		return errors.New("peer: the node id is 0")
	case c.ClusterName == "" || len(c.ClusterName) > 255:
		return errors.New("peer: the cluster name must have 1 to 255 bytes")
	case len(c.Self.Name) > 255:
		return errors.New("peer: the node name must have at most 255 bytes")
	case c.Handler == nil || c.Position == nil:
		return errors.New("peer: Handler or Position is missing")
	case c.TLS != nil && c.Certified == nil:
		return errors.New("peer: TLS needs Certified to check whose a certificate is")
	case c.TLS != nil && c.TLS.GetConfigForClient == nil && c.TLS.ClientCAs == nil, c.TLS != nil && c.TLS.RootCAs == nil:
		return errors.New("peer: TLS needs its own certificate authority") // with the system's roots anybody could be let in
	case c.MaxFrame < 0 || c.MaxFrame > 1<<30:
		return fmt.Errorf("peer: invalid frame limit of %d bytes", c.MaxFrame)
	}
	return nil
}
