package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"coord/server/frontend"
	"coord/server/replica"
	"coord/server/session"
)

// Listening says where a server that has just become ready can be reached.
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
	addProcessor()
	// Ports first: what is refused because of them touches no data.
	listeners, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer n.close()

	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && n.port < 0 {
			n.port = a.Port
		}
	}

	n.replica, err = replica.New(replica.Config{
		NodeID: n.identity.Node, Tree: n.tree, Start: n.start, HardState: n.recovered.HardState, Log: n.wal, Snapshots: n,
		SnapshotTxns: cfg.SnapshotTxns, SnapshotBytes: cfg.SnapshotBytes, Settings: cfg.Settings,
		Full: n.space.full, Burst: func() { n.front.Flush() }, Logger: log.With().Str("room", "replica").Logger(),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n.tree = nil // the replica's from now on
	keeper := session.New(session.Config{Replica: n.replica, ContainerInterval: cfg.ContainerInterval, Logger: log.With().Str("room", "session").Logger()})
	least, most := cfg.sessionBounds()
	n.front = frontend.New(frontend.Config{
		Backend: n.replica, Node: n, Sessions: keeper, SessionDeadline: keeper.Deadline, MaxClientConns: cfg.MaxClientConns, FourLetter: cfg.FourLetter,
		MaxFrame: cfg.MaxFrame, MinSession: least, MaxSession: most, ZooKeeperFrame: cfg.ZooKeeperFrame, ReconfigEnabled: cfg.ReconfigEnabled,
		SuperDigest: cfg.SuperDigest, Version: cfg.Version, Built: cfg.Built, Logger: log.With().Str("room", "frontend").Logger(),
	})

	// Clients leave before the replica stops, so that what it has answered is sent.
	inner, stopReplica := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReplica()
	core, inner := errgroup.WithContext(inner)
	core.Go(func() error { return n.replica.Run(inner) })
	core.Go(func() error { return tuneCollector(inner, n.front.Rest) })
	select {
	case <-n.replica.Ready():
	case <-inner.Done():
		return n.fatal(core.Wait())
	case <-ctx.Done():
		stopReplica()
		return n.fatal(core.Wait())
	}
	n.measured.loaded(start, n.replica.Stats().Txns)
	core.Go(func() error { return keeper.Run(inner) })

	clients, clientsCtx := errgroup.WithContext(ctx)
	serveCtx, stopServing := context.WithCancel(clientsCtx)
	defer context.AfterFunc(inner, stopServing)()
	defer stopServing()
	for _, l := range listeners {
		clients.Go(func() error { return n.front.Serve(serveCtx, l) })
	}
	at := Listening{DataDir: cfg.DataDir, Took: time.Since(start)}
	for _, l := range listeners {
		at.Addrs = append(at.Addrs, address(l.Addr()))
	}
	log.Info().Strs("listen", at.Addrs).Str("data_dir", cfg.DataDir).Dur("took", at.Took).Msg("ready")
	warnOpen(listeners, log)
	ready(at)

	clientsErr := clients.Wait()
	stopReplica()
	if err := n.fatal(core.Wait()); err != nil {
		return err
	}
	if clientsErr != nil {
		return clientsErr
	}
	log.Info().Msg("stopped")
	return nil
}

// fatal explains why the replica ended and makes what room it can.
func (n *node) fatal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		n.space.dropBallast() // so that the next start can open the log
		return fmt.Errorf("%w: %w", ErrFatalIO, err)
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
		case errors.Is(err, syscall.EADDRINUSE):
			return ls, failure{ErrInUse, fmt.Errorf("the address %s is taken by another process", addr)}
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

// removeStale removes a socket that nobody listens on any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil //nolint:nilerror // listening will say what is wrong
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return failure{ErrInUse, fmt.Errorf("the socket %s is taken by another process", path)}
	}
	return os.Remove(path)
}

func address(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

// warnOpen says so when anybody on the network can connect.
func warnOpen(ls []net.Listener, log zerolog.Logger) {
	for _, l := range ls {
		if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
			log.Warn().Stringer("listen", a).Msg("clients of other hosts are served in clear text: whoever can connect can read and write what ACLs do not forbid")
			return
		}
	}
}
