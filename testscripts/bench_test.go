package testscripts

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// benchCommand is coord bench in a process of its own.
func benchCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "coord", append([]string{"bench"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// benchLoad is a load in the JSON of coord bench.
type benchLoad struct {
	Name    string
	Servers []struct {
		Ops []struct {
			Op     string
			Count  int64
			Errors map[string]int64
			P50    float64 `json:"p50_us"`
			Max    float64 `json:"max_us"`
		}
	}
	Ratios []struct {
		P50 *float64
	}
}

// TestBench runs every preset against a ZooKeeper and coord in turn: neither may
// answer with an error or keep a znode of it.
func TestBench(t *testing.T) {
	needZooKeeper(t)
	t.Parallel()
	z := startZooKeeper(t, t.TempDir())
	p := launch(t, t.TempDir(), "--max-client-conns", "0")
	var all []benchLoad
	both := []string{
		"--server", z.addr, "--compare", p.addr, "--warmup", "0s", "--rounds", "1", "--hold", "100ms", "--timeout", "60s", "--json",
	}
	for _, load := range []string{ // limited by a number of requests where possible: in a fixed time a busy machine may do nothing
		"--preset set,set-1k,create,get,mixed,set-64x1,set-1x1,get-1x1,sessions --requests 300", "--preset fanout-1000,fanout-5000 --requests 2",
		"--preset paced --duration 2s", "--mix get=4,set=3,create=3,delete,exists,children,multi,sync --requests 3000", "--mix create,delete --seq -e --batch 1 --requests 300",
	} {
		cmd := benchCommand(t, append(strings.Fields(load), both...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v; ZooKeeper is at %s", load, err, z.addr)
		}
		var js struct{ Loads []benchLoad }
		if err := json.Unmarshal(out, &js); err != nil {
			t.Fatal(err)
		}
		all = append(all, js.Loads...)
	}
	if len(all) < 14 {
		t.Errorf("%d loads only", len(all))
	}
	for _, l := range all {
		for i, s := range l.Servers {
			for _, op := range s.Ops {
				if op.Count == 0 || len(op.Errors) > 0 || op.P50 <= 0 || op.Max < op.P50 {
					t.Errorf("%s, server %d: %+v", l.Name, i, op)
				}
			}
		}
		if len(l.Servers) != 2 || len(l.Ratios) != len(l.Servers[0].Ops) || l.Ratios[0].P50 == nil {
			t.Errorf("%+v", l)
		}
	}
	cleaned(t, z)
	if got := p.ask("LS /"); strings.Contains(got, "bench") {
		t.Errorf("left behind in coord: %s", got)
	}
}

// cleaned checks that a load has left nothing in a ZooKeeper.
func cleaned(t *testing.T, z *zooKeeper) {
	t.Helper()
	names, _, err := z.session().Children("/")
	if err != nil || !slices.Equal(names, []string{"zookeeper"}) {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// TestBenchInterrupted: Ctrl-C, and the death of the server, in the middle of a load.
func TestBenchInterrupted(t *testing.T) {
	needZooKeeper(t)
	t.Parallel()
	z := startZooKeeper(t, t.TempDir(), "-Dzookeeper.forceSync=no") // it has only seconds to answer and to clean up
	begin := func(args ...string) (*exec.Cmd, *strings.Builder, *strings.Builder) {
		cmd := benchCommand(t, append(args, "--server", z.addr, "--warmup", "0s", "--duration", "1h")...)
		out, errOut := &strings.Builder{}, &strings.Builder{}
		cmd.Stdout, cmd.Stderr = out, errOut
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		count := func() int {
			_, n, _ := strings.Cut(askWord(t, z.addr, "srvr"), "Node count: ")
			return len(strings.TrimSpace(n))
		}
		for deadline := time.Now().Add(hung); count() < 4; time.Sleep(20 * time.Millisecond) { // four digits: thousands of znodes
			if time.Now().After(deadline) {
				t.Fatalf("no load comes: %s", errOut)
			}
		}
		return cmd, out, errOut
	}
	exit := func(err error) int {
		if ended, ok := errors.AsType[*exec.ExitError](err); ok {
			return ended.ExitCode()
		}
		return 0
	}
	for _, args := range []string{"--mix create --seq -e --keys 10", "--keys 1000000"} {
		cmd, out, errOut := begin(strings.Fields(args)...)
		_ = cmd.Process.Signal(syscall.SIGINT)
		if code := exit(cmd.Wait()); code != 130 || errOut.String() != "coord: interrupted\n" || strings.Contains(args, "create") != strings.Contains(out.String(), "\ncreate ") {
			t.Errorf("%s: exit code %d, %s%s", args, code, out, errOut)
		}
		cleaned(t, z)
	}
	cmd, out, errOut := begin("--mix", "create=9,get", "--keys", "10")
	z.kill()
	if code := exit(cmd.Wait()); code != 7 || !strings.Contains(out.String(), "\ncreate ") || !strings.Contains(errOut.String(), "connection lost") || !strings.Contains(errOut.String(), " could not be removed: ") {
		t.Errorf("killed: exit code %d, %s%s", code, out, errOut)
	}
}
