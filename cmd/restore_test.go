package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestoreFromZooKeeper: the flags, the exit codes and the output.
func TestRestoreFromZooKeeper(t *testing.T) {
	folder, err := filepath.Abs("../snapshot/zkimport/testdata/zookeeper-3.8.0")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	copied := func(dir string, harm func(log string) error) {
		t.Helper()
		if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		if err := harm(filepath.Join(dir, "version-2", "log.5")); err != nil {
			t.Fatal(err)
		}
	}
	copied("damaged", func(log string) error {
		b, err := os.ReadFile(log)
		if err == nil {
			b[100] ^= 1
			err = os.WriteFile(log, b, 0o600)
		}
		return err
	})
	copied("cut", func(log string) error { return os.Truncate(log, 5000) })
	copied("logless", func(log string) error {
		return os.Rename(filepath.Dir(log), "x")
	})
	if err := os.MkdirAll("logless/version-2", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("logs/version-2", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log.1", "log.5"} {
		if err := os.Rename("x/"+name, "logs/version-2/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename("x/snapshot.4", "logless/version-2/snapshot.4"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		text string
	}{
		{"restore --data-dir new", exitUsage, "the backup FILE, or --from-zookeeper DIR"},
		{"restore b --from-zookeeper " + folder + " --data-dir new", exitUsage, "a backup FILE and --from-zookeeper DIR exclude each other"},
		{"restore --from-zookeeper " + folder, exitUsage, "--data-dir DIR is missing"},
		{"restore --from-zookeeper " + folder + " --data-dir new --exact", exitUsage, "--exact and --from-zookeeper exclude each other"},
		{"restore b --log-dir x --data-dir new", exitUsage, "--log-dir needs --from-zookeeper"},
		{"restore --from-zookeeper none --data-dir new", exitNotFound, "none"},
		{"restore --from-zookeeper . --data-dir new", exitDamaged, "not a ZooKeeper data folder"},
		{"restore --from-zookeeper damaged --data-dir new", exitDamaged, "hint: another member's folder may be intact. To give up everything from the damage on: in a copy of the folder, run truncate -s"},
		{"restore --from-zookeeper logless --data-dir new", exitDamaged, "--log-dir here"},
		{"restore --from-zookeeper " + folder + " --data-dir " + "damaged", exitUnsafe, "ZooKeeper"},
		{"restore --from-zookeeper cut --data-dir new --dry-run", exitOK, "ends in an unfinished write"},
		{"restore --from-zookeeper logless --log-dir logs --data-dir new --dry-run", exitOK, "would make"},
		{"restore --from-zookeeper " + folder + " --data-dir new --dry-run", exitOK, "would make"},
		{"restore --from-zookeeper " + folder + " --data-dir new", exitOK, "coord server --data-dir"},
		{"restore --from-zookeeper " + folder + " --data-dir new", exitUnsafe, "--replace"},
		{"restore --from-zookeeper " + folder + " --data-dir new --replace --dry-run", exitOK, "would replace"},
		{"restore --from-zookeeper " + folder + " --data-dir new --replace -y", exitOK, "kept"},
	} {
		got := coord(t, "", strings.Fields(tt.args)...)
		if got.code != tt.code || !strings.Contains(got.out+got.errOut, tt.text) {
			t.Errorf("coord %s: %+v", tt.args, got)
		}
	}
	got := coord(t, "", "restore", "--from-zookeeper", folder, "--data-dir", "again")
	for _, want := range []string{
		"zookeeper  " + folder + " of ", "snapshot: snapshot.4: checksum and records are correct", "digest: equal to ZooKeeper's own at zxid 0x3a",
		"2 ephemeral znodes of 3 sessions", "versions and counters as they were",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in %+v", want, got)
		}
	}
	stop := serveIn(t, "new")
	defer stop()
	if got := coord(t, "", "create", "--seq", "/queue/job-"); got.out != "/queue/job-0000000006\n" {
		t.Errorf("the next sequential name: %+v", got)
	}
}
