package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// flip damages a byte in the middle of a file, which may be in use.
func flip(t testing.TB, file string, at float64) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	flipAt(t, file, int64(float64(info.Size())*at))
}

// flipRecords is flip for a segment of the log, which may have free space after its
// records. A segment without records stays unchanged.
func flipRecords(t testing.TB, file string, at float64) {
	t.Helper()
	if _, end := frames(t, file); end > 0 {
		flipAt(t, file, int64(float64(end)*at))
	}
}

func flipAt(t testing.TB, file string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, offset)
	b[0] ^= 0x40
	if _, err2 := f.WriteAt(b, offset); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
}

// TestEnsembleLosesADisk: if a node's disk is wiped, older, or has a damaged log,
// the node comes back as a new one in the old one's place, and the ensemble has
// three voters again.
func TestEnsembleLosesADisk(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, n *node){
		"wiped": func(t *testing.T, n *node) {
			if err := os.RemoveAll(n.dir); err != nil {
				t.Fatal(err)
			}
			n.flags = append([]string{"--join", strings.Join(n.c.hosts, ",")}, patience...)
		},
		"older": func(t *testing.T, n *node) {
			if err := os.RemoveAll(n.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(n.dir, os.DirFS(n.dir+".old")); err != nil {
				t.Fatal(err)
			}
			_ = os.Chmod(n.dir, 0o700)
		},
		"damaged log": func(t *testing.T, n *node) {
			flipRecords(t, n.segments()[0], 0.5)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := form(t, patience...) // a new leader may not know what the older copy lacks: see TestEnsembleOlderCopy
			victim := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n != c.leader() })]
			victim.copyDisk()
			c.agree()
			old := victim.id()
			victim.kill()
			harm(t, victim)
			victim.start()
			victim.await()
			if got := victim.synced("GET /n199"); !strings.Contains(got, "v199") {
				t.Fatalf("it serves what it should not: %s", got)
			}
			if name == "wiped" {
				fresh := ""
				c.eventually("the new node is there", func() bool {
					rows, _ := c.nodes[0].members()
					for _, r := range rows {
						if r.Name == victim.name && r.ID != old {
							fresh = r.ID
						}
					}
					return fresh != ""
				})
				c.eventually("the new one is up, the old one, whose address it has, is not", func() bool {
					rows, _ := c.leader().members()
					up := map[string]int{}
					for _, r := range rows {
						up[r.ID] = r.Up
					}
					if up[fresh] == 1 && up[old] == 1 {
						t.Fatalf("a node that is no more is up: %+v", rows)
					}
					return up[fresh] == 1
				})
				for _, bad := range []string{fresh + " " + old, fresh + " " + fresh, old + " " + old, old + " " + c.leader().id()} {
					var got string
					c.eventually("somebody leads", func() bool {
						got = c.leader().ask("ADMIN REPLACE " + bad)
						return !leaderless(got)
					})
					if !strings.HasPrefix(got, "ERR SYNTAX") {
						t.Errorf("replace %s: %s", bad, got)
					}
				}
				c.eventually("the new one in the place of the old", func() bool {
					_, err := askAt(c.hosts[0]+":2181", "ADMIN REPLACE "+old+" "+fresh)
					now, err2 := c.nodes[0].members()
					return err == nil && err2 == nil && len(now) == 3
				})
			}
			c.eventually("three voters, the old id gone", func() bool {
				rows, err := c.nodes[0].members()
				return err == nil && len(rows) == 3 && votes(rows) == 3 && !slices.ContainsFunc(rows, func(r row) bool { return r.ID == old })
			})
			c.agree()
		})
	}
}

// TestEnsembleOlderCopy: a node comes back with an older copy of its disk, when no leader remembers
// what it has acknowledged. The log says what it had, so it comes back as a new node in the old one's
// place.
func TestEnsembleOlderCopy(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(lead, other *node){
		"another leads": func(lead, other *node) {
			other.c.eventually(other.name+" leads", func() bool {
				_, err := askAt(lead.host+":2181", "ADMIN TRANSFER "+other.name)
				return err == nil && other.c.leader() == other
			})
		},
		"all restarted": func(lead, other *node) {
			for _, n := range []*node{lead, other} {
				n.signal(syscall.SIGKILL)
			}
			for _, n := range []*node{lead, other} {
				n.wait()
				n.start()
			}
			lead.await()
			other.await()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := form(t)
			lead := c.leader()
			victim, other := lead.others()[0], lead.others()[1]
			old := victim.id()
			victim.copyDisk()
			// A later write records in the log what the node has acknowledged, within a second or so;
			// longer on a busy machine.
			for began := time.Now(); time.Since(began) < 6*time.Second; {
				victim.takes(20)
			}
			victim.kill()
			forget(lead, other)
			other.takes(20)
			if err := os.RemoveAll(victim.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(victim.dir+".old", victim.dir); err != nil {
				t.Fatal(err)
			}
			_ = os.Chmod(victim.dir, 0o700)
			victim.start()
			victim.await()
			victim.replaced(t, old)
			if !strings.Contains(victim.stderr(), "the data folder is an older copy of this node's") {
				t.Errorf("%s does not say why: %s", victim.name, victim.stderr())
			}
			if got := victim.synced("GET /n0", "GET /n199", "GET /probe"); strings.Contains(got, "ERR") {
				t.Fatal(got)
			}
			c.agree()
		})
	}
}

// copyDisk leaves a copy of the node's disk in dir.old. The copy becomes old at once: the node
// continues and stores 200 more writes.
func (n *node) copyDisk() {
	n.c.t.Helper()
	n.kill()
	if err := os.CopyFS(n.dir+".old", os.DirFS(n.dir)); err != nil {
		n.c.t.Fatal(err)
	}
	n.start()
	n.await()
	n.c.fill200()
}

// fill200 writes 200 znodes, through the nodes in turn.
func (c *cluster) fill200() {
	c.t.Helper()
	for i := range 200 {
		c.nodes[i%3].does(fmt.Sprintf("CREATE /n%d v%d", i, i))
	}
}

// segments are the files of a node's log.
func (n *node) segments() []string {
	n.c.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "wal", "0*"))
	if err != nil || len(files) == 0 {
		n.c.t.Fatalf("no segments: %v", err)
	}
	return files
}

// TestEnsemblePowerCut: the whole site loses power, and each log ends in a torn write
// that was never acknowledged. The ensemble starts again without help and has
// everything.
func TestEnsemblePowerCut(t *testing.T) {
	t.Parallel()
	c := form(t)
	c.fill200()
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range c.nodes {
		files := n.segments()
		last := files[len(files)-1]
		_, end := frames(t, last)
		f, err := os.OpenFile(last, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("\300\002Etorn"), end); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		n.start()
	}
	for _, n := range c.nodes {
		n.await()
		if !strings.Contains(n.stderr(), "torn write") {
			t.Errorf("%s says nothing of the torn write", n.name)
		}
		if got := n.synced("GET /n0", "GET /n199"); !strings.Contains(got, "v0") || !strings.Contains(got, "v199") {
			t.Fatalf("%s has lost a write: %s", n.name, got)
		}
	}
	c.agree()
}

// TestEnsembleFailingDisk: the leader's disk fails. Its process ends with 20, the
// other nodes continue, and it comes back when the disk is repaired.
func TestEnsembleFailingDisk(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	c := form(t)
	c.fill200()
	lead := c.leader()
	lead.signal(syscall.SIGTERM)
	lead.wait()
	lead.under = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=20+"}
	for _, file := range lead.segments() {
		lead.under = append(lead.under, "-P", file)
	}
	lead.start()
	_, _ = lead.ready() // unless it fails before that
	other := c.nodes[(slices.Index(c.nodes, lead)+1)%3]
	for began := time.Now(); lead.lives(); {
		switch got := other.ask("SET /more create x"); {
		case leaderless(got): // it was the leader
			pause()
		case !strings.HasPrefix(got, "OK"):
			t.Fatalf("a write beside a failing disk: %s", got)
		}
		if time.Since(began) > hung {
			t.Fatal("no fsync failed: the test tested nothing")
		}
	}
	if code := lead.wait(); code != 20 {
		t.Fatalf("exit %d, want 20: %s", code, lead.stderr())
	}
	lead.under = nil
	lead.start()
	lead.await()
	if got := lead.synced("GET /n199", "GET /more"); !strings.Contains(got, "v199") || strings.Contains(got, "ERR") {
		t.Fatal(got)
	}
	c.agree()
}
