package server

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"coord/gossip"
	"coord/server/founding"
	"coord/server/peer"
	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// Config is everything that decides what a server does. cmd fills it from flags, COORD_* variables
// and the configuration file.
type Config struct {
	DataDir string // the data folder, created if it is missing
	Name    string // for people; by default the name of the host
	Listen  []string
	// Cluster is the name of the cluster: for people, and the label that keeps the gossip of
	// different ensembles apart.
	Cluster string

	MaxClientConns int      // from one address, 0 for no limit; unix sockets are not counted
	FourLetter     []string // the four-letter words that are answered; "*" for all
	MaxFrame       int      // bytes of the largest request and of the largest value
	// These concern ZooKeeper's clients alone: the bounds for the session timeouts they ask for (0:
	// two and twenty ticks), the longest frame (0: enough for MaxFrame), and whether reconfig is
	// answered as switched off or as not possible.
	TickTime, MinSession, MaxSession time.Duration
	ZooKeeperFrame                   int
	ReconfigEnabled                  bool
	SuperDigest                      string // user:base64(sha1(user:password)) of the operator; once it is set, a client on loopback is no operator by that alone

	SnapshotTxns  int   // a snapshot after so many txns …
	SnapshotBytes int64 // … or so many bytes of log
	SnapshotKeep  int   // how many of the newest snapshots are kept, with the log back to the oldest of them
	// SnapshotMaxAge removes snapshots older than this, but never the newest two; 0 means never.
	SnapshotMaxAge time.Duration

	Settings tree.Settings // what all nodes must agree on; the leader writes it into the state
	// ContainerInterval is how long a container stays empty before it is deleted.
	ContainerInterval time.Duration
	// ReserveBytes is the free space below which writes are refused; 0 derives it from the size of
	// the disk.
	ReserveBytes int64

	Ensemble *Ensemble // nil: the node is alone and opens no port for peers

	Version string // of the binary
	Built   string // build time, as 01/02/2006 15:04 GMT
}

// Ensemble configures a node that is one of several.
type Ensemble struct {
	PeerListen, GossipListen string // ADDR:PORT
	// Advertise is the host, a name or an address, at which others reach this node; "" means that
	// the node finds it out.
	Advertise string
	// How the ensemble comes about, on a first start only. A node with Join alone never founds an
	// ensemble. A node with none of the three founds one by itself, and others may join it. Initial
	// excludes the other two.
	Join    []string  // HOST[:GOSSIP-PORT] of members
	Expect  int       // found with this many blank nodes; 0: not used
	Initial []Founder // found with exactly these nodes, this one (Config.Name) among them

	Observer bool        // never votes
	Secret   peer.Secret // of the cluster; may be empty only on loopback
	// Tick is raft's unit of time. The leader sends a heartbeat every HeartbeatTicks; after
	// ElectionTicks of silence another leader is elected.
	Tick                          time.Duration
	HeartbeatTicks, ElectionTicks int
	// SyncLimit is how long this node may be without a leader before it sends its clients
	// elsewhere.
	SyncLimit time.Duration
	// PEM files: this node's certificate and key for peers, and the authority that all nodes trust.
	TLSCert, TLSKey, TLSCA string
}

// Founder is one of the nodes that found an ensemble. All of them have the same list.
type Founder struct {
	Name, Addr string // Addr is HOST:PEER-PORT
	GossipPort int    // 0: gossip.DefaultPort
}

// DefaultEnsemble holds the defaults of the settings that do not depend on the node.
func DefaultEnsemble() Ensemble {
	return Ensemble{
		PeerListen: DefaultPeerListen, GossipListen: DefaultGossipListen,
		Tick: replica.DefaultTick, HeartbeatTicks: replica.DefaultHeartbeatTick, ElectionTicks: replica.DefaultElectionTick, SyncLimit: 10 * time.Second,
	}
}

// Defaults, which cmd also shows.
const (
	DefaultListen       = "127.0.0.1:2181"
	DefaultDataDir      = "./coord-data"
	DefaultCluster      = "coord"
	DefaultPeerListen   = ":2888"
	DefaultGossipListen = ":2889"
)

// Limits of an Ensemble.
const (
	MaxFounders  = founding.MaxMembers
	MaxSeeds     = 64 // in Join
	MinTick      = time.Millisecond
	MaxTick      = 10 * time.Second
	MaxTicks     = 1000 // of an election
	MaxSyncLimit = 24 * time.Hour
)

// DefaultConfig is a complete configuration of a single node on loopback.
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

// sessionBounds are the bounds for the timeouts that ZooKeeper's clients ask for.
func (c Config) sessionBounds() (least, most time.Duration) {
	if least = c.MinSession; least == 0 {
		least = 2 * c.TickTime
	}
	if most = c.MaxSession; most == 0 {
		most = 20 * c.TickTime
	}
	return least, most
}

// Validate returns all that is wrong with the configuration, in words for the command line.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.DataDir == "" {
		bad("no data folder is set")
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
		bad("the limit of connections per address is %d: expected 0 (no limit) or more", c.MaxClientConns)
	}
	if least, most := c.sessionBounds(); least < time.Millisecond || most < least || most > math.MaxInt32*time.Millisecond {
		bad("invalid range of session timeouts of ZooKeeper's clients: %v to %v", least, most)
	}
	if c.MaxFrame < 1<<10 || c.MaxFrame > MaxMaxFrame {
		bad("the largest frame is %d bytes: expected 1024 to %d", c.MaxFrame, MaxMaxFrame)
	}
	if c.SnapshotTxns < 1 || c.SnapshotBytes < 1<<10 || c.SnapshotKeep < 1 {
		bad("a snapshot every %d transactions or %d bytes of log, %d kept: expected at least 1, 1024 and 1", c.SnapshotTxns, c.SnapshotBytes, c.SnapshotKeep)
	}
	if c.SnapshotMaxAge < 0 || c.ContainerInterval <= 0 || c.ReserveBytes < 0 {
		bad("a time or size is negative")
	}
	if c.SuperDigest != "" {
		_, hash, _ := strings.Cut(c.SuperDigest, ":")
		switch { // the value is not shown: it may be a password
		case strings.Count(c.SuperDigest, ":") != 1:
			bad("the super digest is not user:hash")
		case !znode.IsDigest(hash):
			bad("the part of the super digest after the colon is not the base64 of a SHA-1, so no password would match; to make it: printf %%s USER:PASSWORD | openssl sha1 -binary | base64")
		}
	}
	if c.Ensemble != nil {
		c.Ensemble.validate(c.Name, c.Cluster, bad)
	}
	return errors.Join(errs...)
}

// validate checks an ensemble's settings for a node and a cluster of these names.
func (e *Ensemble) validate(name, cluster string, bad func(format string, a ...any)) {
	if len(name) > gossip.MaxName || len(cluster) > founding.MaxText {
		bad("in an ensemble a node's name is limited to %d bytes, and the cluster's name to %d", gossip.MaxName, founding.MaxText)
	}
	var open []string
	for _, addr := range []string{e.PeerListen, e.GossipListen} {
		host, _, err := splitAddr(addr)
		if err != nil {
			bad("the address for other nodes %w", err)
		} else if !IsLoopback(host) {
			open = append(open, addr)
		}
	}
	if len(open) > 0 && len(e.Secret) == 0 {
		bad("%s would be open to other hosts, and the cluster has no secret: give all nodes the same one, in a file (secret-file) or in COORD_SECRET",
			strings.Join(open, " and "))
	}
	if err := e.checkTLS(); err != nil {
		bad("%w", err)
	}
	if e.Advertise != "" && !isHost(e.Advertise) {
		bad("%q is not a host at which other nodes can reach this node", e.Advertise)
	}
	switch {
	case e.Expect != 0 && len(e.Initial) > 0:
		bad("expect and initial exclude each other: both define the founders of the ensemble")
	case e.Observer && (e.Expect != 0 || len(e.Initial) > 0):
		bad("an observer cannot found an ensemble (expect, initial): it can only join one (join)")
	case e.Observer && len(e.Join) == 0:
		bad("an observer needs join: the host of a node of the ensemble")
	case len(e.Initial) > 0 && len(e.Join) > 0:
		bad("initial and join exclude each other: initial founds an ensemble, join looks for an existing one")
	}
	if e.Expect != 0 && (e.Expect < 2 || e.Expect > MaxFounders) {
		bad("an ensemble is founded by 2 to %d nodes, not by %d", MaxFounders, e.Expect)
	}
	if len(e.Join) > MaxSeeds {
		bad("%d hosts to join: at most %d are allowed", len(e.Join), MaxSeeds)
	}
	for _, seed := range e.Join {
		if err := checkSeed(seed); err != nil {
			bad("join: %w", err)
		}
	}
	if len(e.Initial) > 0 {
		checkFounders(e.Initial, name, bad)
		for _, f := range e.Initial {
			if host, _, err := splitAddr(f.Addr); err == nil && f.Name != name && e.isOtherKind(host) {
				bad("initial: %s: this node listens for other nodes on %s and cannot reach %s: one is IPv4, the other IPv6", f.Name, e.PeerListen, f.Addr)
			}
		}
	}
	if e.Tick < MinTick || e.Tick > MaxTick {
		bad("raft-tick is %v: expected %v to %v", e.Tick, MinTick, MaxTick)
	}
	if e.HeartbeatTicks < 1 || e.ElectionTicks <= e.HeartbeatTicks || e.ElectionTicks > MaxTicks {
		bad("heartbeat-ticks is %d and election-ticks is %d: expected 1 to %d, and election-ticks above heartbeat-ticks", e.HeartbeatTicks, e.ElectionTicks, MaxTicks)
	}
	if least := e.Tick * time.Duration(e.ElectionTicks); e.SyncLimit < least || e.SyncLimit > MaxSyncLimit {
		bad("sync-limit is %v: expected %v (the time of an election) to %v", e.SyncLimit, least, MaxSyncLimit)
	}
}

func checkFounders(all []Founder, self string, bad func(format string, a ...any)) {
	if len(all) < 2 || len(all) > MaxFounders {
		bad("an ensemble is founded by 2 to %d nodes, but initial lists %d", MaxFounders, len(all))
	}
	names, addrs := map[string]bool{}, map[string]bool{}
	for _, f := range all {
		host, port, err := splitAddr(f.Addr)
		switch {
		case f.Name == "" || len(f.Name) > gossip.MaxName || strings.ContainsAny(f.Name, " \t\n\""):
			bad("initial: %q is not a valid name of a node", f.Name)
		case err != nil:
			bad("initial: %s: %w", f.Name, err)
		case port == 0 || !isHost(host) || f.GossipPort < 0 || f.GossipPort > math.MaxUint16:
			bad("initial: %s: %q is not a host and port at which other nodes can reach it", f.Name, f.Addr)
		case names[f.Name] || addrs[f.Addr]:
			bad("initial: the name %s or the address %s is listed twice", f.Name, f.Addr)
		}
		names[f.Name], addrs[f.Addr] = true, true
		if at := hostPort(host, f.GossipPort); f.GossipPort != 0 {
			if addrs[at] {
				bad("initial: %s: the address %s is listed twice", f.Name, at)
			}
			addrs[at] = true
		}
	}
	if !names[self] {
		bad("initial does not list this node, whose name is %s", self)
	}
}

// isOtherKind says whether host is an IPv4 address while this node listens for its peers on an IPv6
// one, or the other way round. Then no link is possible, because links are dialled from the address
// that the node listens on.
func (e *Ensemble) isOtherKind(host string) bool {
	own, _, _ := splitAddr(e.PeerListen)
	from, err := netip.ParseAddr(own)
	to, toErr := netip.ParseAddr(host)
	return err == nil && toErr == nil && !from.IsUnspecified() && from.Unmap().Is4() != to.Unmap().Is4()
}

// splitSeed splits HOST or HOST:PORT. Without a port it returns port 1.
func splitSeed(seed string) (host string, port int) {
	host, port, err := splitAddr(seed)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(seed, "["), "]"), 1
	}
	return host, port
}

// checkSeed checks that a seed is HOST or HOST:PORT.
func checkSeed(seed string) error {
	if host, port := splitSeed(seed); port == 0 || !isHost(host) {
		return fmt.Errorf("%q is not HOST or HOST:PORT", seed)
	}
	return nil
}

// splitAddr is net.SplitHostPort for a port that is a number.
func splitAddr(addr string) (host string, port int, err error) {
	host, number, err := net.SplitHostPort(addr)
	n, numErr := strconv.ParseUint(number, 10, 16)
	if err != nil || numErr != nil {
		return "", 0, fmt.Errorf("%q is not ADDR:PORT", addr)
	}
	return host, int(n), nil
}

// isHost says whether a name or address is one at which others may reach a node.
func isHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return !a.IsUnspecified()
	}
	return host != "" && len(host) <= gossip.MaxHost && !strings.ContainsAny(host, " \t\n\"/:,[]")
}

// IsLoopback says whether a host can be reached from this machine only.
func IsLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || host == "localhost"
}
