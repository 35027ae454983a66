package cmd

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"coord/server/text"
)

func TestSnapshotFile(t *testing.T) {
	serve(t, nil)
	dir := t.TempDir()
	t.Chdir(dir)
	if got := coord(t, "", "create", "/app", "v"); got.code != exitOK {
		t.Fatal(got)
	}
	got := coord(t, "", "snapshot", "b.coord")
	if got.code != exitOK || !strings.Contains(got.out, "verified") || got.errOut != "" {
		t.Fatalf("%+v", got)
	}
	b, err := os.ReadFile("b.coord")
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(b)); !strings.Contains(got.out, "sha256      "+sum) {
		t.Errorf("the sum of the file is %s:\n%s", sum, got.out)
	}
	if info, _ := os.Stat("b.coord"); info.Mode() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
	if got := coord(t, "", "snapshot", "b.coord"); got.code != exitUnsafe || !strings.Contains(got.errOut, "--force") {
		t.Errorf("an existing file: %+v", got)
	}
	if got := coord(t, "", "snapshot", ""); got.code != exitUsage || !strings.Contains(got.errOut, "the name of the file is empty") {
		t.Errorf("no name: %+v", got)
	}
	if err := os.WriteFile("b.coord.part", []byte("left by a killed one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "", "snapshot", "--force", "b.coord"); got.code != exitOK {
		t.Errorf("with --force: %+v", got)
	}
	for _, args := range []string{"snapshot save c.coord", "snapshot save --to d.coord", "snapshot -- save", "snapshot -- -"} {
		if got := coord(t, "", strings.Fields(args)...); got.code != exitOK {
			t.Errorf("coord %s: %+v", args, got)
		}
	}
	out := coord(t, "", "snapshot", "-")
	if out.code != exitOK || !strings.Contains(out.errOut, fmt.Sprintf("%x", sha256.Sum256([]byte(out.out)))) {
		t.Errorf("to stdout: %d %s", out.code, out.errOut)
	}
	if err := os.WriteFile("e.coord", []byte(out.out), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"b.coord", "c.coord", "d.coord", "e.coord", "save", "./-"} {
		if got := coord(t, "", "snapshot", "verify", "--level", "restore", f); got.code != exitOK {
			t.Errorf("verify %s: %+v", f, got)
		}
	}
	if left, _ := filepath.Glob("*.part"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if got := coord(t, "", "snapshot", "none/x"); got.code != exitNotFound {
		t.Errorf("no folder: %+v", got)
	}
	if got := coord(t, "", "snapshot", "verify", "none"); got.code != exitNotFound {
		t.Errorf("no file: %+v", got)
	}
	bad := bytes.Clone(b)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile("bad", bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "", "snapshot", "verify", "bad"); got.code != exitDamaged || got.out != "" {
		t.Errorf("a damaged file: %+v", got)
	}
	if got := coord(t, "", "snapshot", "verify", "--level", "header", "bad"); got.code != exitOK {
		t.Errorf("the header of a damaged file: %+v", got)
	}
}

func TestSnapshotBeingWritten(t *testing.T) {
	t.Chdir(t.TempDir())
	f, err := os.Create("b.part")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "", "snapshot", "b"); got.code != exitInUse {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat("b.part"); err != nil {
		t.Error("the other one's file is gone")
	}
}

// TestSnapshotCut: an incomplete backup leaves nothing behind, and an existing file
// stays unchanged.
func TestSnapshotCut(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("old", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := []byte("no backup at all")
	chunk := append(reply(text.Reply{Kind: text.KindOK}), reply(text.Reply{Kind: text.KindChunk, Data: data})...)
	end := func(sum [32]byte) []byte {
		return reply(text.Reply{Kind: text.KindEnd, Fields: []text.Field{text.Str("sha256", fmt.Sprintf("%x", sum)), text.Int("bytes", int64(len(data)))}})
	}
	for name, answer := range map[string][]byte{
		"wrong sum": append(bytes.Clone(chunk), end([32]byte{})...),
		"no backup": append(bytes.Clone(chunk), end(sha256.Sum256(data))...),
		"cut":       append(bytes.Clone(chunk), "ERR INTERNAL - cut\n"...),
	} {
		fake(t, func(*text.Request) []byte { return answer })
		for _, args := range []string{"snapshot new", "snapshot --force old", "snapshot -"} {
			if name == "no backup" && args == "snapshot -" {
				continue // only the checksum can be verified there
			}
			if got := coord(t, "", strings.Fields(args)...); got.code != exitDamaged || got.errOut == "" {
				t.Errorf("%s: coord %s: %+v", name, args, got)
			}
		}
	}
	files, _ := filepath.Glob("*")
	if old, _ := os.ReadFile("old"); len(files) != 1 || string(old) != "old" {
		t.Errorf("files: %v, the old one has %q", files, old)
	}
}

// TestSnapshotWithoutLeader: a backup from a node without a leader comes with a note
// about what it may lack.
func TestSnapshotWithoutLeader(t *testing.T) {
	data := []byte("a backup")
	answer := slices.Concat(reply(text.Reply{Kind: text.KindOK}), reply(text.Reply{Kind: text.KindChunk, Data: data}), reply(text.Reply{
		Kind: text.KindEnd, Fields: []text.Field{text.Str("sha256", fmt.Sprintf("%x", sha256.Sum256(data))), text.Int("bytes", int64(len(data)))}}))
	for role, want := range map[string]bool{"candidate": true, "follower": false} {
		fakeNode(t, reply(text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Str("role", role)}}), func(*text.Request) []byte { return answer })
		if got := coord(t, "", "snapshot", "-"); got.code != exitOK || got.out != string(data) || strings.Contains(got.errOut, "has no leader now") != want {
			t.Errorf("%s: %+v", role, got)
		}
	}
}

// TestSnapshotKilledAtTheEnd: a process that was killed while it published its file has
// left it under both names. The next process writes a new file.
func TestSnapshotKilledAtTheEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("b", []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link("b", "b.part"); err != nil {
		t.Fatal(err)
	}
	fake(t, func(*text.Request) []byte { return []byte("ERR INTERNAL - cut\n") })
	if got := coord(t, "", "snapshot", "--force", "b"); got.code == exitOK {
		t.Fatalf("%+v", got)
	}
	if b, _ := os.ReadFile("b"); string(b) != "whole" {
		t.Errorf("it has %q", b)
	}
	if _, err := os.Stat("b.part"); err == nil {
		t.Error("the part is left")
	}
}

// TestSnapshotAppears: a file that appears meanwhile is not overwritten.
func TestSnapshotAppears(t *testing.T) {
	t.Chdir(t.TempDir())
	p, err := createPart("b", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("b", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.publish(); exitCode(err) != exitUnsafe {
		t.Error(err)
	}
	p.remove()
	if b, _ := os.ReadFile("b"); string(b) != "mine" {
		t.Errorf("it has %q", b)
	}
	if _, err := os.Stat("b.part"); err == nil {
		t.Error("the part is left")
	}
}

func TestOfflineAndRestore(t *testing.T) {
	t.Chdir(t.TempDir())
	stop := serveIn(t, "data")
	for _, args := range []string{"create /app v", "create --seq /app/s-", "snapshot online"} {
		if got := coord(t, "", strings.Fields(args)...); got.code != exitOK {
			t.Fatal(args, got)
		}
	}
	if got := coord(t, "", "snapshot", "--data-dir", "data", "offline"); got.code != exitInUse || !strings.Contains(got.errOut, "without --data-dir") {
		t.Errorf("a live folder: %+v", got)
	}
	if got := coord(t, "", "restore", "online", "--data-dir", "data", "--replace", "-y"); got.code != exitInUse {
		t.Errorf("restore into a live folder: %+v", got)
	}
	stop()
	if got := coord(t, "", "snapshot", "--data-dir", "data", "offline"); got.code != exitOK {
		t.Errorf("a stopped folder: %+v", got)
	}
	if got := coord(t, "", "snapshot", "--data-dir", "none", "offline2"); got.code != exitNotFound {
		t.Errorf("no folder: %+v", got)
	}
	for _, tt := range []struct {
		args string
		code int
		text string
	}{
		{"restore offline --data-dir new --dry-run", exitOK, "would make"},
		{"restore offline --data-dir new", exitOK, "coord server --data-dir"},
		{"restore online --data-dir data", exitUnsafe, "--replace"},
		{"restore online --data-dir data --replace --dry-run", exitOK, "would replace"},
		{"restore online --data-dir data --replace -y", exitOK, "kept"},
		{"restore nothing --data-dir other", exitNotFound, "nothing"},
	} {
		got := coord(t, "", strings.Fields(tt.args)...)
		if got.code != tt.code || !strings.Contains(got.out+got.errOut, tt.text) {
			t.Errorf("coord %s: %+v", tt.args, got)
		}
	}
	for _, dir := range []string{"new", "data"} {
		stop := serveIn(t, dir)
		if got := coord(t, "", "ls", "-R", "/app"); got.out != "/app/s-0000000000\n" {
			t.Errorf("in %s: %+v", dir, got)
		}
		stop()
	}
}
