package testscripts

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var otherArchitectures = flag.Bool("architectures", false, "run the binaries of other architectures, by emulators")

// architecture is one that coord is shipped for, and the program that runs its binaries here.
type architecture struct {
	name     string // GOARCH
	emulator string
	built    func() (string, error) // the binary as it is shipped, built once
}

var architectures = []*architecture{
	emulated("arm64", "qemu-aarch64-static"),
	emulated("arm", "qemu-arm-static"),
	emulated("mipsle", "qemu-mipsel-static"),
	emulated("riscv64", "qemu-riscv64-static"),
}

func emulated(name, emulator string) *architecture {
	return &architecture{name, emulator, sync.OnceValues(func() (string, error) {
		return build(name, "GOOS=linux", "GOARCH="+name, "GOMIPS=softfloat")
	})}
}

// needArchitecture skips a test where a binary of the architecture cannot be run, and gives it otherwise.
func needArchitecture(t *testing.T, a *architecture) (bin string) {
	t.Helper()
	if !*otherArchitectures {
		t.Skip("SKIPPED: -architectures builds the binaries of other architectures, and runs them by emulators")
	}
	need(t, "go", a.emulator)
	bin, err := a.built()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// variety is a znode of each kind, changes of each kind, and a session that waits for its client.
var variety = []string{
	`CREATE /bytes :7` + "\nab\x00\xff\r\nc",
	`CREATE /queue ""`, `CREATE /queue/job- SEQ 1`, `CREATE /queue/job- SEQ 2`, `RM /queue/job-0000000000`,
	`CREATE /box CONTAINER ""`, `CREATE /box/ttl ttl=24h x`,
	`CREATE /acl acl=world:anyone:r,ip:127.0.0.0/8:cdrwa x`, `SETACL /acl world:anyone:cdrwa`, `SET /acl v=0 y`,
	"TXN 2\nCREATE /both 1\nSET /queue/job-0000000001 three",
	`SESSION NEW ttl=24h hold=24h`, `CREATE /up EPHEMERAL host`, `SESSION DETACH hold=24h`,
}

// TestArchitectures: the binary of each architecture starts, takes writes, and has them all behind a SIGKILL; what it leaves on
// the disk, and its backups, are read by this machine's binary to the same digest, and the other way round.
func TestArchitectures(t *testing.T) {
	t.Parallel()
	for _, a := range architectures {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			bin := needArchitecture(t, a)
			dir := filepath.Join(t.TempDir(), "data")
			start := func(bin string, emulator ...string) *process {
				t.Helper()
				p, err := startBinary(t, bin, dir, emulator, "--snapshot-every", "1MiB", "--snapshot-keep", "1")
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			state := func(p *process) string { return p.fact("coord_digest") + " at " + p.fact("coord_zxid") }

			p := start(bin, a.emulator)
			if answer := p.ask(variety...); strings.Contains(answer, "ERR") {
				t.Fatal(answer)
			}
			for i := range 6 { // snapshots, and a second segment of the log
				value := strings.Repeat(string(rune('a'+i)), 1<<20-1)
				if answer := p.ask(fmt.Sprintf("CREATE /large%d :%d\n%s", i, len(value), value)); !strings.HasPrefix(answer, "OK") {
					t.Fatalf("%.200s", answer)
				}
			}
			want := state(p)
			p.kill()

			ours := start("coord")
			if got := state(ours); got != want {
				t.Fatalf("this machine reads %s, want %s", got, want)
			}
			ourBackup := backup(t, ours)
			ours.kill()

			p = start(bin, a.emulator)
			if got := state(p); got != want {
				t.Fatalf("it reads %s, want %s", got, want)
			}
			if got := p.ask("GET /bytes"); !strings.Contains(got, "\nab\x00\xff\r\nc\n") {
				t.Errorf("the bytes are %q", got)
			}
			restore(t, backup(t, p), "coord") // which compares the digest with the state that comes out
			if theirs, ours := restore(t, ourBackup, a.emulator, bin), restore(t, ourBackup, "coord"); theirs != ours {
				t.Errorf("it restores %s, and this machine %s", theirs, ours)
			}
		})
	}
}

// backup asks a server for one.
func backup(t *testing.T, p *process) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup")
	if _, stderr, code := run(t, "snapshot", "--server", p.addr, file); code != 0 {
		t.Fatalf("%d: %s", code, stderr)
	}
	return file
}

// restore brings a backup back with some coord, and tells what came of it.
func restore(t *testing.T, file string, coord ...string) (digest string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	args := slices.Concat(coord, []string{"restore", file, "--data-dir", dir})
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	digest, _ = offline(t, dir)
	return digest
}

// TestArchitecturesTogether: nodes of three architectures are an ensemble, and agree.
func TestArchitecturesTogether(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for i, name := range []string{"arm", "mipsle"} {
		for _, a := range architectures {
			if a.name == name {
				c.nodes[i].bin, c.nodes[i].under = needArchitecture(t, a), []string{a.emulator}
			}
		}
	}
	c.form(patience...)
	for round := range 2 {
		for _, n := range c.nodes {
			n.does(fmt.Sprintf("CREATE /%s-%d x", n.name, round))
		}
		c.leader()
		c.agree()
		if round == 0 {
			c.restart()
		}
	}
	if got := c.nodes[0].synced("LS /"); strings.Count(got, "ITEM n") != 6 {
		t.Errorf("not everything is there: %s", got)
	}
}
