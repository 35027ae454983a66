package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFailingDisk makes the n-th write to the log, or the n-th fsync of it, fail.
// The server ends with 20 and never confirms what it could not store; the next
// start has everything that was confirmed.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	for _, call := range []string{"write", "fsync"} {
		for _, errno := range []string{"EIO", "ENOSPC"} {
			for _, n := range []int{1, 2, 5} {
				t.Run(fmt.Sprintf("%s %s %d", call, errno, n), func(t *testing.T) {
					t.Parallel()
					dir := filepath.Join(t.TempDir(), "data")
					launch(t, dir).kill() // create the folder without faults
					segments, _ := filepath.Glob(filepath.Join(dir, "wal", "*"))
					wrapper := []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call,
						"-e", fmt.Sprintf("inject=%s:error=%s:when=%d+", call, errno, n+2)}
					for _, s := range segments {
						wrapper = append(wrapper, "-P", s)
					}
					confirmed := 0
					p, err := tryLaunch(t, dir, wrapper)
					if err == nil {
						for i := 1; i <= 50; i++ {
							answer, err := askAt(p.addr, fmt.Sprintf("SET /n create %d", i))
							if err != nil || !strings.HasPrefix(answer, "OK") {
								break
							}
							confirmed = i
						}
					}
					if confirmed == 50 {
						t.Fatal("no write failed: the test tested nothing")
					}
					if code := p.wait(); code != 20 {
						t.Fatalf("exit %d, want 20: %s", code, p.stderr())
					}
					p = launch(t, dir)
					got := 0
					if answer := p.ask("GET /n"); !strings.HasPrefix(answer, "ERR NOTFOUND") {
						got = value(t, answer)
					}
					if got < confirmed || got > confirmed+1 {
						t.Fatalf("after the restart %d, confirmed %d", got, confirmed)
					}
				})
			}
		}
	}
}

// TestFullDisk fills a small file system. The server refuses writes while reads and
// deletes go on; when there is room again, it accepts writes, and nothing that was
// confirmed is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	mount := smallDisk(t, "24m")
	dir := filepath.Join(mount, "data")
	p := launch(t, dir)
	if got := p.ask("CREATE /a 1"); !strings.HasPrefix(got, "OK") {
		t.Fatal(got)
	}
	filler := filepath.Join(mount, "filler")
	fill(t, filler)
	refused := ""
	for i := range 200 { // the first one after the fill may still be accepted
		if refused = p.ask(fmt.Sprintf("SET /a %d", i)); strings.HasPrefix(refused, "ERR NOSPACE") {
			break
		}
	}
	if !strings.HasPrefix(refused, "ERR NOSPACE") {
		t.Fatalf("a full disk takes writes: %q", refused)
	}
	if got := p.ask("GET /a"); !strings.HasPrefix(got, "DATA") {
		t.Fatalf("reads do not go on: %q", got)
	}
	if got := p.ask("RM /a"); !strings.HasPrefix(got, "OK") {
		t.Fatalf("deletes do not go on: %q", got)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return strings.HasPrefix(p.ask("SET /b create 1"), "OK") }) // there is room again
	p.kill()
	p = launch(t, dir)
	if got := p.ask("EXISTS /b", "EXISTS /a"); !strings.HasPrefix(got, "OK") || !strings.Contains(got, "ERR NOTFOUND") {
		t.Fatalf("after a restart: %q", got)
	}
}

// TestSmallDisk: on a disk with room for the data twice and for a few times its log, writes go on for ever.
// When the data itself is too large, deleting some of it is enough.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	const disk, value, batch = 96 << 20, 3000, 50
	mount := smallDisk(t, fmt.Sprint(disk))
	dir := filepath.Join(mount, "data")
	p := launch(t, dir)
	text := strings.Repeat("0123456789", value/10)
	// sets returns how many writes of a batch were accepted.
	sets := func(path string, from int) (taken int) {
		var lines []string
		for i := range batch {
			lines = append(lines, fmt.Sprintf("SET %s%d create %s", path, from+i, text))
		}
		return strings.Count(p.ask(lines...), "OK")
	}
	taken, deadline := 0, time.Now().Add(2*hung)
	for i := 0; taken*value < 2*disk; i = (i + batch) % 1500 {
		n := sets("/k", i)
		if taken += n; n < batch {
			pause()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d MB were taken, on a disk of %d", taken*value>>20, disk>>20)
		}
	}
	made := 0
	for refused := 0; refused < 40; {
		if n := sets("/more", made); n == batch {
			made, refused = made+batch, 0
		} else {
			refused++
			pause()
		}
		if made*value > disk {
			t.Fatal("the disk holds more than its size")
		}
	}
	for i := 0; i < made+batch; i += batch {
		var lines []string
		for j := range batch {
			lines = append(lines, fmt.Sprintf("RM /more%d", i+j))
		}
		p.ask(lines...)
	}
	await(t, func() bool { return sets("/k", 0) == batch }) // what took the room was deleted
	p.kill()
	p = launch(t, dir)
	if got := p.ask("EXISTS /k0", "EXISTS /k1499", "EXISTS /more0"); strings.Count(got, "OK") != 2 || !strings.Contains(got, "ERR NOTFOUND") {
		t.Errorf("after a restart: %s", got)
	}
	t.Logf("%d MB were taken by a disk of %d; %d MB of data fit", taken*value>>20, disk>>20, made*value>>20)
}
