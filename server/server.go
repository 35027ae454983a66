package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"coord/server/frontend"
	"coord/server/replica"
	"coord/server/session"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/wal"
)

// Listening says where clients can reach a server that has just become ready.
type Listening struct {
	Addrs   []string
	DataDir string
	Took    time.Duration // since Run was called
}

// Run serves until ctx ends (then the error is nil) or something essential
// fails. ready is called once clients can connect.
func Run(ctx context.Context, cfg Config, log zerolog.Logger, ready func(Listening)) error {
	start := time.Now()
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if _, _, err := peerTLS(cfg.Ensemble, cfg.Name, zerolog.Nop()); err != nil { // before anything is touched
		return err
	}
	addProcessor()
	limitMemory()
	for was := (*lost)(nil); ; {
		err := live(ctx, &cfg, was, start, log, ready)
		var gone *lostError
		if !errors.As(err, &gone) || ctx.Err() != nil {
			return err
		}
		log.Error().Err(err).Msg("this node has lost data that it had acknowledged: it looks for the other nodes, to rejoin as a new node")
		was = &lost{cluster: gone.cluster, reason: gone.Error()}
	}
}

// live is one life of a node; most servers have only one. It writes the port numbers it got into
// cfg, so that the next life uses the same ports.
func live(ctx context.Context, cfg *Config, was *lost, start time.Time, log zerolog.Logger, ready func(Listening)) error {
	// The ports come first: a start that fails because of a port touches no data.
	listeners, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	var peers net.Listener
	if cfg.Ensemble != nil {
		if peers, err = listenPeers(cfg.Ensemble.PeerListen); err != nil {
			return err
		}
		defer func() { _ = peers.Close() }()
	}
	n, err := openNode(*cfg, was, log)
	if err != nil {
		return err
	}
	defer n.close()
	wasMember := n.identity.State == datadir.Member
	cfg.Listen = nil
	for _, l := range listeners {
		cfg.Listen = append(cfg.Listen, address(l.Addr()))
		if a, ok := l.Addr().(*net.TCPAddr); ok && n.port < 0 {
			n.port, n.onLoopback = a.Port, a.IP.IsLoopback()
		}
	}

	// Clients leave before the replica stops, so that every answer it has given is sent. The links
	// to the other nodes stay up until the end.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	core, inner := errgroup.WithContext(inner)
	n.cfg.Listen = cfg.Listen
	if peers != nil {
		if n.ens, err = newEnsemble(inner, n, peers); err != nil {
			return err
		}
		core.Go(n.ens.run)
	}
	closeDoor := n.openDoor(inner, listeners)
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(inner, cancel)()
	err = n.open(starting)
	if err == nil {
		err = n.serve(ctx, core, inner, listeners, closeDoor, func() {
			at := Listening{Addrs: cfg.Listen, DataDir: cfg.DataDir, Took: time.Since(start)}
			n.measured.loaded(start, n.replica.Stats().Txns)
			log.Info().Strs("listen", at.Addrs).Str("data_dir", cfg.DataDir).Dur("took", at.Took).Msg("ready")
			warnOpen(listeners, log)
			if n.ens != nil && wasMember {
				n.ens.compareList()
			}
			ready(at)
		})
	}
	closeDoor()
	stop()
	if ended := n.fatal(core.Wait()); ended != nil {
		err = ended // any other error is a consequence of this one
	} else if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // stopped before it was ready
	}
	if err = n.outcome(err); err == nil {
		log.Info().Msg("stopped")
	}
	return err
}

// openDoor answers clients while the node does not serve yet. closeDoor ends that; it may be called
// more than once.
func (n *node) openDoor(ctx context.Context, listeners []net.Listener) (closeDoor func()) {
	ctx, cancel := context.WithCancel(ctx)
	door := &frontend.Doorman{Waiting: n.waiting, FourLetter: n.cfg.FourLetter, Version: n.cfg.Version, Built: n.cfg.Built,
		Logger: n.log.With().Str("room", "frontend").Logger()}
	var open sync.WaitGroup
	for _, l := range listeners {
		open.Go(func() {
			if err := door.Serve(ctx, l); err != nil {
				n.log.Warn().Err(err).Stringer("listen", l.Addr()).Msg("clients get no answer until the node is ready")
			}
		})
	}
	return func() {
		cancel()
		open.Wait()
	}
}

// waiting says in words what the node waits for before it serves clients.
func (n *node) waiting() string {
	if n.ens != nil {
		if why := n.ens.machine.waiting(); why != "" {
			return why
		}
		if n.ens.replica.Load() != nil {
			return "waiting for the leader of the ensemble"
		}
	}
	return "loading the data"
}

// serve runs the replica and lets clients in, until ctx or inner ends.
func (n *node) serve(ctx context.Context, core *errgroup.Group, inner context.Context, listeners []net.Listener, closeDoor, ready func()) error {
	cfg := &n.cfg
	conf := replica.Config{
		NodeID: n.identity.Node, Tree: n.tree, Start: n.start, HardState: n.recovered.HardState, Log: n.wal, Snapshots: n,
		SnapshotTxns: cfg.SnapshotTxns, SnapshotBytes: cfg.SnapshotBytes, Settings: cfg.Settings,
		Full: n.space.full, FullBytes: min(replica.DefaultFullBytes, int64(n.space.reserve/4)), Burst: func() { n.front.Flush() }, Logger: n.log.With().Str("room", "replica").Logger(),
	}
	var keeper *session.Keeper
	sessions := session.Config{ContainerInterval: cfg.ContainerInterval, Logger: n.log.With().Str("room", "session").Logger()}
	if e := n.ens; e != nil {
		e.store.Store(n.store)
		conf.Peers, conf.Received = carrier{e}, e
		conf.Changed = func() {
			e.steward.poke()
			keeper.Look()
		}
		conf.Replaced = func(t *tree.Tree, w *watchTable) { n.front.Replaced(t, w) }
		conf.Tick, conf.HeartbeatTick, conf.ElectionTick = cmp.Or(e.cfg.Tick, replica.DefaultTick), e.cfg.HeartbeatTicks, e.cfg.ElectionTicks
		conf.SyncTicks = int(e.cfg.SyncLimit / conf.Tick)
		sessions.Ensemble = e
	}
	var err error
	if n.replica, err = replica.New(conf); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n.tree = nil // it belongs to the replica from now on
	sessions.Replica = n.replica
	keeper = session.New(sessions)
	least, most := cfg.sessionBounds()
	n.front = frontend.New(frontend.Config{
		Backend: n.replica, Node: n, Sessions: keeper, SessionDeadline: keeper.Deadline, MaxClientConns: cfg.MaxClientConns, FourLetter: cfg.FourLetter,
		MaxFrame: cfg.MaxFrame, MinSession: least, MaxSession: most, ZooKeeperFrame: cfg.ZooKeeperFrame, ReconfigEnabled: cfg.ReconfigEnabled,
		SuperDigest: cfg.SuperDigest, Version: cfg.Version, Built: cfg.Built, Logger: n.log.With().Str("room", "frontend").Logger(),
	})
	core.Go(func() error { return n.replica.Run(inner) })
	core.Go(func() error { return n.collector.tune(inner, n.front.Rest) })
	if n.ens != nil {
		n.ens.serve(n.replica, keeper)
		core.Go(func() error { return n.ens.steward.run(inner) })
	}
	select {
	case <-n.replica.Ready():
	case <-inner.Done():
		return nil
	case <-ctx.Done():
		return nil
	}
	core.Go(func() error { return keeper.Run(inner) })

	closeDoor()
	serving, stopServing := context.WithCancel(inner)
	defer stopServing()
	clients, serving := errgroup.WithContext(serving)
	for _, l := range listeners {
		clients.Go(func() error { return n.front.Serve(serving, l) })
	}
	ready()
	defer context.AfterFunc(ctx, func() {
		n.handOver()
		stopServing()
	})()
	return clients.Wait()
}

// handOverTime is how long a stopping leader tries to hand over its leadership.
const handOverTime = time.Second

// handOver gives the leadership away before the node stops, so that writers need not wait for an
// election.
func (n *node) handOver() {
	if n.ens == nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.ens.ctx, handOverTime)
	defer cancel()
	if err := n.replica.HandOver(ctx); err != nil {
		n.log.Warn().Err(err).Msg("the leadership was not handed over")
	}
}

// outcome turns the error that ended a life into what Run returns. A node that was removed never
// starts again; a node whose state diverged never starts again as the same node.
func (n *node) outcome(err error) error {
	var removed *removedError
	var diverged *divergedError
	switch {
	case errors.As(err, &diverged):
		return errors.Join(err, n.dir.Condemn(time.Now(), diverged.Error()))
	case !errors.As(err, &removed):
		return err
	}
	id := n.identity
	id.State, id.Reason = datadir.Removed, removed.reason
	if err := n.dir.WriteIdentity(id); err != nil {
		return explain(err)
	}
	if removed.asked {
		n.log.Info().Msg("this node has left its cluster for ever")
		return nil
	}
	return err
}

// fatal explains why the replica ended. If the disk is full, it frees the ballast.
func (n *node) fatal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		n.space.dropBallast() // so that the next start can open the log
		return fmt.Errorf("%w: %w", ErrFatalIO, err)
	}
	if errors.Is(err, replica.ErrOlder) {
		return n.damaged(fmt.Errorf("%w: the data folder is an older copy of this node's data: %w", ErrDamaged, err))
	}
	if _, ok := errors.AsType[*wal.DamageError](err); ok { // found while the log was read for another node
		return n.damaged(explain(err))
	}
	return explain(err)
}

// listen opens the client ports: ADDR:PORT or unix:PATH.
func listen(ctx context.Context, addrs []string) (ls []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range ls {
				_ = l.Close()
			}
		}
	}()
	for _, addr := range addrs {
		network := "tcp"
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			network, addr = "unix", path
			if err := removeStale(path); err != nil {
				return ls, err
			}
		}
		l, err := listenConfig().Listen(ctx, network, addr)
		switch {
		case errors.Is(err, syscall.EADDRINUSE) && network == "tcp" && slices.ContainsFunc(ls, func(l net.Listener) bool { return overlap(l, addr) }):
			return ls, fmt.Errorf("%w: listen on %s: an address given earlier already uses this port", ErrConfig, addr)
		case errors.Is(err, syscall.EADDRINUSE):
			return ls, failure{ErrInUse, fmt.Errorf("the address %s is in use by another process", addr)}
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			return ls, fmt.Errorf("%w: listen on %s: %w", ErrPermitted, addr, err)
		case err != nil:
			return ls, fmt.Errorf("%w: listen on %s: %w", ErrConfig, addr, err)
		}
		ls = append(ls, l)
		if network == "unix" {
			if err := os.Chmod(addr, 0o660); err != nil {
				return ls, fmt.Errorf("%w: %w", ErrPermitted, err)
			}
		}
	}
	return ls, nil
}

// overlap says whether the port of addr is taken by l, a listener that this process opened for an
// earlier address.
func overlap(l net.Listener, addr string) bool {
	have, ok := l.Addr().(*net.TCPAddr)
	host, port, err := net.SplitHostPort(addr)
	if !ok || err != nil || strconv.Itoa(have.Port) != port {
		return false
	}
	ip := net.ParseIP(host)
	return have.IP.IsUnspecified() || host == "" || ip.IsUnspecified() || ip.Equal(have.IP)
}

// removeStale removes a socket file that no process listens on any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil //nolint:nilerror // listening will report the error
	case info.Mode()&os.ModeSocket == 0: // listening would only say that the path is in use
		return fmt.Errorf("%w: listen on unix:%s: the file exists and is not a socket", ErrConfig, path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return failure{ErrInUse, fmt.Errorf("the socket %s is in use by another process", path)}
	}
	return os.Remove(path)
}

func address(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

// warnOpen warns if clients on other hosts can connect.
func warnOpen(ls []net.Listener, log zerolog.Logger) {
	for _, l := range ls {
		if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
			log.Warn().Stringer("listen", a).Msg("clients on other hosts are served in clear text: anyone who can connect can read and write everything that ACLs do not protect")
			return
		}
	}
}
