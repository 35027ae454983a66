package server

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"coord/tree"
)

// Config is everything that decides what a server does. cmd maps flags, COORD_*
// and the configuration file to it.
type Config struct {
	DataDir string // the data folder, made if it is missing
	Name    string // for people; the host's name unless told
	Listen  []string
	// Cluster is the name of the cluster: a label for people, and later for gossip.
	Cluster string

	MaxClientConns int      // from one address, 0 for no limit; unix sockets are exempt
	FourLetter     []string // the four-letter words that are answered; "*" for all
	MaxFrame       int      // bytes of the largest request and of the largest value
	// What only ZooKeeper's clients see: the bounds of the session timeouts that they
	// ask for (0: two and twenty ticks), the longest frame (0: room for MaxFrame),
	// and whether reconfig is switched off or not possible.
	TickTime, MinSession, MaxSession time.Duration
	ZooKeeperFrame                   int
	ReconfigEnabled                  bool
	SuperDigest                      string // user:base64(sha1(user:password)) of the operator; once set, loopback alone is none

	SnapshotTxns  int   // a snapshot after so many txns …
	SnapshotBytes int64 // … or bytes of log
	SnapshotKeep  int   // newest snapshots kept, with the log back to the oldest of them
	// SnapshotMaxAge removes older snapshots, but never the newest two; 0 is never.
	SnapshotMaxAge time.Duration

	Settings tree.Settings // what all nodes must agree on; the leader puts it into the state
	// ContainerInterval is how long a container stays empty before it is deleted.
	ContainerInterval time.Duration
	// ReserveBytes is the free space below which writes are refused; 0 derives it from the disk.
	ReserveBytes int64

	Ensemble *Ensemble // nil: no other nodes

	Version string // of the binary
	Built   string // when, as 01/02/2006 15:04 GMT
}

// Ensemble is what concerns other nodes.
type Ensemble struct {
	// TLS between peers: files with this node's certificate, its key, and the
	// authority of all. All are given, or none.
	TLSCert, TLSKey, TLSCA string
}

// The defaults that cmd shows.
const (
	DefaultListen  = "127.0.0.1:2181"
	DefaultDataDir = "./coord-data"
	DefaultCluster = "coord"
)

// DefaultConfig is a whole ensemble of one on loopback.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "coord"
	}
	return Config{
		DataDir: DefaultDataDir, Name: name, Listen: []string{DefaultListen}, Cluster: DefaultCluster,
		MaxClientConns: 60, FourLetter: []string{"ruok", "srvr", "mntr", "isro"}, MaxFrame: 1 << 20,
		TickTime:     2 * time.Second,
		SnapshotTxns: 100_000, SnapshotBytes: 64 << 20, SnapshotKeep: 3,
		Settings: tree.DefaultSettings, ContainerInterval: time.Minute, Version: "dev", Built: "01/01/1970 00:00 GMT",
	}
}

// MaxMaxFrame is the largest MaxFrame: the log takes entries of 4 MiB.
const MaxMaxFrame = 3 << 20

// sessionBounds are those of the timeouts of ZooKeeper's clients.
func (c Config) sessionBounds() (least, most time.Duration) {
	if least = c.MinSession; least == 0 {
		least = 2 * c.TickTime
	}
	if most = c.MaxSession; most == 0 {
		most = 20 * c.TickTime
	}
	return least, most
}

// Validate says what is wrong, in words for the command line.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.DataDir == "" {
		bad("the data folder has no name")
	}
	if len(c.Listen) == 0 {
		bad("there is no address to listen on")
	}
	if c.Name == "" || strings.ContainsAny(c.Name, " \t\n\"") {
		bad("the name %q is empty or has spaces or quotes", c.Name)
	}
	if c.Cluster == "" || strings.ContainsAny(c.Cluster, " \t\n\"") {
		bad("the cluster's name %q is empty or has spaces or quotes", c.Cluster)
	}
	if c.MaxClientConns < 0 {
		bad("the limit of connections an address is %d; 0 is none", c.MaxClientConns)
	}
	if least, most := c.sessionBounds(); least < time.Millisecond || most < least || most > math.MaxInt32*time.Millisecond {
		bad("the session timeouts of ZooKeeper's clients are %v to %v", least, most)
	}
	if c.MaxFrame < 1<<10 || c.MaxFrame > MaxMaxFrame {
		bad("the largest frame is %d bytes; 1024 to %d are possible", c.MaxFrame, MaxMaxFrame)
	}
	if c.SnapshotTxns < 1 || c.SnapshotBytes < 1<<10 || c.SnapshotKeep < 1 {
		bad("a snapshot every %d txns or %d bytes of log, %d kept: too small", c.SnapshotTxns, c.SnapshotBytes, c.SnapshotKeep)
	}
	if c.SnapshotMaxAge < 0 || c.ContainerInterval <= 0 || c.ReserveBytes < 0 {
		bad("a time or size is negative")
	}
	if c.SuperDigest != "" && strings.Count(c.SuperDigest, ":") != 1 {
		bad("the super digest is not user:hash")
	}
	if c.Ensemble != nil {
		if err := c.Ensemble.checkTLS(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
