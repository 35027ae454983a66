package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"coord/server"
	"coord/snapshot/datadir"
	"coord/wal"
)

// TestAStartIsCounted: the boot count is in the folder before any other node is told of it.
func TestAStartIsCounted(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	for boot := uint64(1); boot <= 3; boot++ {
		var log bytes.Buffer
		ctx, stop := context.WithCancel(t.Context())
		if err := server.Run(ctx, cfg, zerolog.New(&log), func(server.Listening) { stop() }); err != nil {
			t.Fatal(err)
		}
		id, _, err := datadir.ReadIdentity(cfg.DataDir)
		if err != nil || id.Boot != boot {
			t.Errorf("boot %d, want %d: %v", id.Boot, boot, err)
		}
		if want := fmt.Sprintf(`"boot":%d,`, boot); !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in %s", want, log.String())
		}
	}
}

// TestNoStartFromWhatIsNoMember: a folder that is promised to a founding, removed or faulty is left as it is.
func TestNoStartFromWhatIsNoMember(t *testing.T) {
	t.Parallel()
	for state, want := range map[datadir.State]error{datadir.Promised: server.ErrConfig, datadir.Removed: server.ErrForeign, datadir.Faulty: server.ErrDamaged} {
		cfg := testConfig(t)
		d, err := datadir.Open(cfg.DataDir, true)
		if err != nil {
			t.Fatal(err)
		}
		id := datadir.Identity{State: state, Node: 5, Boot: 7, Reason: "the reason"}
		if state == datadir.Promised {
			id.Reason, id.Promise = "", &datadir.Promise{Proposer: 5, Members: []datadir.Founder{{Node: 5}, {Node: 6}}}
		}
		if err := errors.Join(d.WriteIdentity(id), d.Close()); err != nil {
			t.Fatal(err)
		}
		err = server.Run(t.Context(), cfg, zerolog.Nop(), nil)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), id.Reason) {
			t.Errorf("%s: %v", state, err)
		}
		if got, _, err := datadir.ReadIdentity(cfg.DataDir); err != nil || got.Boot != 7 || got.State != state {
			t.Errorf("%s: %+v %v", state, got, err)
		}
	}
}

// TestNotOpened: a snapshot that cannot be opened (its mode, a failing disk) is named, and does not
// prevent a start that does not need it. If the start needs it, the error is not damage.
func TestNotOpened(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	var log bytes.Buffer
	run := func() error {
		log.Reset()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		return server.Run(ctx, cfg, zerolog.New(&log), func(server.Listening) { stop() })
	}
	closed := filepath.Join(cfg.DataDir, datadir.SnapshotName, "snapshot-x.coord")
	if err := errors.Join(run(), os.Symlink(closed, closed), run()); err != nil || !strings.Contains(log.String(), closed) {
		t.Fatalf("%v: %s", err, log.String())
	}
	resetLog(t, cfg.DataDir)
	if err := run(); !errors.Is(err, syscall.ELOOP) || errors.Is(err, server.ErrDamaged) {
		t.Errorf("the log begins behind the others: %v", err)
	}
	if err := os.Remove(closed); err != nil {
		t.Fatal(err)
	}
	if err := run(); !errors.Is(err, server.ErrDamaged) {
		t.Errorf("without it: %v", err)
	}
}

// TestWaitingKept: a node was killed while it took over a snapshot, which can no longer be read.
// The start fails and leaves that file as it is. Other waiting snapshots are removed.
func TestWaitingKept(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	run := func() error {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		return server.Run(ctx, cfg, zerolog.Nop(), func(server.Listening) { stop() })
	}
	if err := run(); err != nil {
		t.Fatal(err)
	}
	waiting := filepath.Join(cfg.DataDir, datadir.SnapshotName, "snapshot-1.received")
	wait := func() {
		if err := os.WriteFile(waiting, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	if err := run(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(waiting); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is not needed: %v", err)
	}
	wait()
	resetLog(t, cfg.DataDir)
	if err := run(); !errors.Is(err, server.ErrDamaged) {
		t.Errorf("started without it: %v", err)
	}
	if _, err := os.Stat(waiting); err != nil {
		t.Error(err)
	}
}

// resetLog makes the log of a stopped server begin after all its snapshots.
func resetLog(t *testing.T, dir string) {
	t.Helper()
	id, _, err := datadir.ReadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, found, err := wal.Open(filepath.Join(dir, datadir.WALName), wal.Options{Meta: wal.Meta{ClusterID: id.Cluster, NodeID: id.Node}})
	if err != nil {
		t.Fatal(err)
	}
	behind := wal.Position{Index: found.Last + 10, Term: found.HardState.Term}
	if err := errors.Join(l.Reset(behind, wal.HardState{Term: behind.Term, Commit: behind.Index}), l.Close()); err != nil {
		t.Fatal(err)
	}
}
