package cmd

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/snapshot/restore"
)

// makeMember turns the folder of a stopped single node into that of one of three members.
func makeMember(t *testing.T, dir string) {
	t.Helper()
	state, err := restore.Snapshot(context.Background(), restore.OfflineOptions{DataDir: dir, Writer: writer})
	if err != nil {
		t.Fatal(err)
	}
	store, err := snapshot.OpenStore(filepath.Join(dir, datadir.SnapshotName), snapshot.Pace{})
	if err != nil {
		t.Fatal(err)
	}
	m := state.Meta
	m.Conf.Voters = append(m.Conf.Voters, 7, 8)
	if _, err := store.Save(context.Background(), m, state.Frozen, snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
}

// TestRecover: the flags, the exit codes, the output, and that a server starts
// afterwards.
func TestRecover(t *testing.T) {
	t.Chdir(t.TempDir())
	stop := serveIn(t, "data")
	for _, args := range []string{"create /a 1", "create /a/seq-", "set /a 2"} {
		if got := coord(t, "", strings.Fields(args)...); got.code != exitOK {
			t.Fatalf("%s: %+v", args, got)
		}
	}
	try := func(args string, code int, texts ...string) outcome {
		t.Helper()
		got := coord(t, "", strings.Fields(args)...)
		if got.code != code {
			t.Errorf("coord %s: %+v", args, got)
		}
		for _, text := range texts {
			if !strings.Contains(got.out+got.errOut, text) {
				t.Errorf("coord %s: no %q in %+v", args, text, got)
			}
		}
		return got
	}
	try("recover -y --data-dir data", exitInUse, "in use by process", "hint: stop that server first")
	stop()
	try("recover -y --data-dir data", exitUnsafe, "its node is the only voter and needs no other")
	makeMember(t, "data")
	was, _, err := datadir.ReadIdentity("data")
	if err != nil {
		t.Fatal(err)
	}
	try("recover", exitUsage, "--data-dir DIR is missing")
	try("recover data", exitUsage, "unexpected argument")
	try("recover --data-dir data", exitUsage, "-y confirms it")
	try("recover -y --data-dir none", exitNotFound, "none")
	if err := os.CopyFS("damaged", os.DirFS("data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove("damaged/identity"); err != nil {
		t.Fatal(err)
	}
	try("recover -y --data-dir damaged", exitDamaged, "identity: is missing")

	members := "voters " + datadir.NodeString(was.Node) + " 0000000000000007 0000000000000008; learners none"
	try("recover --dry-run --data-dir data", exitOK, members, "would replace", "acknowledged and never reached this node are lost")
	if id, _, err := datadir.ReadIdentity("data"); err != nil || !id.Equal(was) {
		t.Errorf("after a dry run: %+v %v", id, err)
	}
	var report restore.Report
	got := try("recover -y --json --data-dir data", exitOK)
	if err := json.Unmarshal([]byte(got.out), &report); err != nil || report.Survivor == nil || report.Survivor.Node != datadir.NodeString(was.Node) || report.State != restore.Done {
		t.Errorf("%v: %+v", err, got)
	}
	stop = serveIn(t, "data")
	if got := coord(t, "", "get", "/a"); got.out != "2" {
		t.Errorf("get: %+v", got)
	}
	if got := coord(t, "", "create", "--seq", "/a/seq-"); got.code != exitOK || got.out < "/a/seq-0001000001" {
		t.Errorf("the next sequential name: %+v", got)
	}
	stop()
	try("recover -y --data-dir data", exitUnsafe, "only voter")
	makeMember(t, "data")
	try("recover -y --data-dir data", exitOK, "node      ", "log       up to entry", "clocks", "kept", "coord server --data-dir ")
}

// TestRecoverAsks: on a terminal the user is asked, and "no" changes nothing.
func TestRecoverAsks(t *testing.T) {
	t.Chdir(t.TempDir())
	serveIn(t, "data")()
	makeMember(t, "data")
	x := onTerminal(t, "recover", "--data-dir", "data")
	eventually(t, "the question", func() bool { return strings.Contains(x.text(), "and does this node have the longest log? [y/N] ") })
	_, _ = x.master.WriteString("n\n")
	if code, text := x.wait(); code != exitFalse {
		t.Errorf("no: %d %s", code, text)
	}
	if got := coord(t, "", "recover", "--dry-run", "--data-dir", "data"); got.code != exitOK {
		t.Errorf("after no: %+v", got)
	}
}
