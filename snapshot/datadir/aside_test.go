package datadir_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/snapshot/datadir"
)

// aged makes a folder of a node with data, and returns its identity.
func aged(t *testing.T, dir string) datadir.Identity {
	t.Helper()
	id := sample()
	id.Replaces = []uint64{5, 4}
	for name, text := range map[string]string{"wal/00001": "a log", "wal/00002": "more of it", "snapshot/1.coord": "a snapshot", "ballast": "....", "restore-1.json": "{}"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	must(t, datadir.WriteIdentity(dir, id))
	return id
}

// data returns the contents of all files of logs and snapshots, wherever they are.
func data(t *testing.T, dir string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasPrefix(e.Name(), "identity") && e.Name() != "lock" {
			var b []byte
			b, err = os.ReadFile(path)
			all = append(all, e.Name()+" "+string(b))
		}
		return err
	}))
	slices.Sort(all)
	return all
}

// owners are the nodes as which a process could start from the folder or from one in it.
func owners(t *testing.T, dir string) (nodes []uint64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			if id, ok, err := datadir.ReadIdentity(path); err == nil && ok && id.State != datadir.Faulty {
				nodes = append(nodes, id.Node)
			}
		}
		return err
	}))
	return nodes
}

// TestSetAsideKilled: after each step, and during the writing of an identity, all data is there, no
// process can start as the old node once the moving has begun, and the same call again completes
// it. H24 (NATS 2.12.1): damaged data is moved, and nothing is deleted.
func TestSetAsideKilled(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	unreadable := func(t *testing.T, dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "identity"), []byte("coord identity 2\nsome of it"), 0o600))
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"the log":              func(*testing.T, string) {},
		"the identity":         unreadable,
		"the identity is gone": func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "identity"))) },
		"the log is gone":      func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "wal"))) },
	} {
		for killed, steps := 0, 1; killed <= steps; killed++ {
			for _, torn := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", name, killed, torn), func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "data")
					old := aged(t, dir)
					damage(t, dir)
					before := data(t, dir)
					whose := owners(t, dir)
					d := open(t, dir)
					next := datadir.NewIdentity(now)
					all, err := d.AsideSteps(now, "why", next)
					must(t, err)
					steps = len(all)
					for _, step := range all[:killed] {
						must(t, step())
					}
					if torn {
						must(t, os.WriteFile(filepath.Join(dir, "identity.new"), []byte("coord iden"), 0o600))
					}
					if got := data(t, dir); !slices.Equal(got, before) {
						t.Fatalf("%q, want %q", got, before)
					}
					switch got := owners(t, dir); {
					case killed == steps && slices.Equal(got, []uint64{next.Node}):
					case killed < steps && (len(got) == 0 || slices.Equal(got, whose)):
					default:
						t.Fatalf("can start as %x", got)
					}
					if killed == steps { // the steps after this move nothing
						must(t, d.Close())
						return
					}
					must(t, d.Close()) // another process
					d = open(t, dir)
					next = datadir.NewIdentity(now.Add(time.Hour))
					to, err := d.SetAside(now.Add(time.Hour), "another word", next)
					must(t, err)
					if got := owners(t, dir); !slices.Equal(got, []uint64{next.Node}) {
						t.Errorf("can start as %x", got)
					}
					if got := data(t, dir); !slices.Equal(got, before) {
						t.Errorf("%q, want %q", got, before)
					}
					id, _, err := d.Identity()
					must(t, err)
					var replaces []uint64 // also the earlier node, which the old node may not have replaced yet
					if whose != nil {
						replaces = append([]uint64{old.Node}, old.Replaces...)
					}
					if !slices.Equal(id.Replaces, replaces) || id.State != datadir.Blank {
						t.Errorf("%+v", id)
					}
					if b, err := os.ReadFile(filepath.Join(to, "snapshot", "1.coord")); err != nil || !bytes.Equal(b, []byte("a snapshot")) {
						t.Errorf("%q %v", b, err)
					}
					aside, ok, err := datadir.ReadIdentity(to)
					if !ok || err != nil || aside.State != datadir.Faulty || aside.Reason == "" || whose != nil && aside.Node != old.Node || whose == nil && aside.Node != 0 {
						t.Errorf("aside: %+v %v %v", aside, ok, err)
					}
				})
			}
		}
	}
}

// TestSetAsideTwice: data damaged a second time in the same second gets a folder of its own.
func TestSetAsideTwice(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	d := open(t, dir)
	aged(t, dir)
	now := time.Now()
	first, err := d.SetAside(now, "x", datadir.NewIdentity(now))
	must(t, err)
	aged(t, dir)
	second, err := d.SetAside(now, "x", datadir.NewIdentity(now))
	must(t, err)
	if first == second || filepath.Dir(second) != dir {
		t.Errorf("%s and %s", first, second)
	}
	// coord's own folders do not count as another program's files.
	must(t, d.Close())
	must(t, os.Chmod(dir, 0o755))
	open(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// TestCondemn: no process starts as the old node any more, the data is where it was, and a later
// SetAside continues from there.
func TestCondemn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "data")
	old := aged(t, dir)
	before := data(t, dir)
	d := open(t, dir)
	must(t, d.Condemn(now, "it differs"))
	if got := owners(t, dir); len(got) != 0 {
		t.Fatalf("can start as %x", got)
	}
	id, _, err := d.Identity()
	must(t, err)
	if id.State != datadir.Faulty || id.Reason != "it differs" || id.Node != old.Node || id.Aside == "" {
		t.Fatalf("%+v", id)
	}
	if _, err := os.Stat(filepath.Join(dir, "wal/00001")); err != nil {
		t.Fatal(err)
	}
	must(t, d.Condemn(now.Add(time.Hour), "again"))
	next := datadir.NewIdentity(now)
	to, err := d.SetAside(now.Add(time.Hour), "another word", next)
	must(t, err)
	if to != filepath.Join(dir, id.Aside) {
		t.Errorf("moved to %s, not to %s", to, id.Aside)
	}
	if got := data(t, dir); !slices.Equal(got, before) {
		t.Fatalf("%q, want %q", got, before)
	}
	if got := owners(t, dir); !slices.Equal(got, []uint64{next.Node}) {
		t.Fatalf("can start as %x", got)
	}
	must(t, d.Close())
}

// TestSetAsideAgain: a node whose disk is lost again and again knows its last predecessors.
func TestSetAsideAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "data")
	nodes := []uint64{aged(t, dir).Node}
	d := open(t, dir)
	for range datadir.MaxReplaces + 3 {
		id := datadir.NewIdentity(now)
		_, err := d.SetAside(now, "why", id)
		must(t, err)
		got, _, err := d.Identity()
		must(t, err)
		want := slices.Concat(nodes, []uint64{5, 4})
		if want = want[:min(len(want), datadir.MaxReplaces)]; !slices.Equal(got.Replaces, want) {
			t.Fatalf("it replaces %x, want %x", got.Replaces, want)
		}
		nodes = append([]uint64{id.Node}, nodes...)
	}
}
