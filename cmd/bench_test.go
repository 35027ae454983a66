package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"coord/server"
)

// quick are the flags of a load that takes very little time.
const quick = " --clients 3 --keys 50 --warmup 0s --requests 300"

// noLimits lets a server accept many connections from one address.
func noLimits(c *server.Config) { c.MaxClientConns = 0 }

func TestBench(t *testing.T) {
	addr := serve(t, noLimits)
	got := coord(t, "", strings.Fields("bench --mix get,set,create=2,delete,exists,children,multi,sync"+quick+fmt.Sprint(" --pid ", os.Getpid()))...)
	if got.code != exitOK || got.errOut != "" {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{"default: 3 clients x 64 under way, get=1,", "\nchildren  ", "\nsync  ", " p99.9 ", addr + ": ", "generator "} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	// No load leaves anything behind.
	for _, args := range []string{
		"--preset create,fanout-1000 --watchers 20 --seq -e", "--sessions 20 --hold 10ms",
	} {
		if got := coord(t, "", strings.Fields("bench "+args+quick)...); got.code != exitOK {
			t.Errorf("%s: %+v", args, got)
		}
	}
	if got := coord(t, "", "ls", "/"); got.out != "zookeeper\n" {
		t.Errorf("left behind: %q", got.out)
	}
	if got := coord(t, "", strings.Fields("bench --keep --path /kept"+quick)...); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	if got := coord(t, "", "ls", "-R", "/kept"); strings.Count(got.out, "\n") != 51 {
		t.Errorf("%d znodes are kept", strings.Count(got.out, "\n"))
	}
	if got := coord(t, "", strings.Fields("bench --path /kept"+quick)...); got.code != exitExists || got.out != "" || !strings.Contains(got.errOut, "/kept: the znode exists already") {
		t.Errorf("%+v", got)
	}
}

// TestBenchCompare: two servers in turn, and the names in the JSON.
func TestBenchCompare(t *testing.T) {
	other := serve(t, noLimits)
	serve(t, noLimits)
	args := strings.Fields("bench --preset mixed,set-1x1 --rounds 2 --compare " + other + quick)
	got := coord(t, "", args...)
	for _, want := range []string{"mixed: 3 clients", "set-1x1: 3 clients", "\nget         this ", "\n            that ", "\n            this/that ", "that " + other + ": generator"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s%s", want, got.out, got.errOut)
		}
	}
	got = coord(t, "", append(args, "--json")...)
	var js struct {
		V     int
		Loads []struct {
			Name, Mix                 string
			Clients, Outstanding      int
			Batch, Size, Keys, Rounds int
			Servers                   []struct {
				Server    string
				Rounds    int
				Seconds   float64
				PerSecond float64 `json:"per_second"`
				Ops       []map[string]any
			}
			Ratios []map[string]any
		}
	}
	if err := json.Unmarshal([]byte(got.out), &js); err != nil || got.code != exitOK || js.V != schema || len(js.Loads) != 2 {
		t.Fatalf("%v: %+v", err, got)
	}
	l := js.Loads[0]
	if l.Name != "mixed" || l.Mix != "get=70,set=30" || l.Clients != 3 || l.Outstanding != 64 || l.Batch != 32 || l.Size != 100 || l.Keys != 50 || l.Rounds != 2 {
		t.Errorf("%+v", l)
	}
	if len(l.Servers) != 2 || l.Servers[1].Server != other || l.Servers[1].Rounds != 2 || l.Servers[1].PerSecond <= 0 || len(l.Ratios) != 2 {
		t.Fatalf("%+v", l)
	}
	for _, name := range []string{"op", "count", "per_second", "p50_us", "p95_us", "p99_us", "p999_us", "max_us"} {
		if l.Servers[0].Ops[0][name] == nil {
			t.Errorf("no %s in %v", name, l.Servers[0].Ops[0])
		}
	}
	for _, name := range []string{"op", "per_second", "p50", "p95", "p99", "p999", "max"} {
		if l.Ratios[0][name] == nil {
			t.Errorf("no %s in %v", name, l.Ratios[0])
		}
	}
}

// TestBenchSources: connections to a loopback address come from several addresses, as if from
// several hosts.
func TestBenchSources(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b := &benchServer{name: l.Addr().String()}
	from := map[string]bool{}
	for range 100 {
		nc, err := b.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		host, _, _ := net.SplitHostPort(nc.LocalAddr().String())
		from[host] = true
		_ = nc.Close()
	}
	if len(from) != 64 || !from["127.0.1.1"] || !from["127.0.1.64"] {
		t.Errorf("from %d addresses: %v", len(from), from)
	}
}

func TestBenchErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangsUp.Close()
	go func() {
		for {
			nc, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_, _ = nc.Read(make([]byte, 64))
			_ = nc.Close()
		}
	}()
	t.Setenv("COORD_SERVER", closed)
	for _, tt := range []struct {
		args, err string
		code      int
	}{
		{"", "connection refused", exitNoAnswer},
		{"--server " + closed + "," + closed, "connection refused", exitNoAnswer},
		{"--sessions 3", "connection refused", exitNoAnswer},
		{"--server " + hangsUp.Addr().String(), "the server closed it when a session of ZooKeeper's protocol was requested", exitNoAnswer},
		{"--explain", "sends no requests of the text protocol", exitUsage},
		{"--mix put=3", "not OP=SHARE", exitUsage},
		{"--preset no", "unknown preset", exitUsage},
		{"--size x", "--size: ", exitUsage},
		{"--clients 0", "clients: expected 1 to", exitUsage},
		{"--rounds 0", "--rounds: expected 1 or more", exitUsage},
		{"--compare-pid 3", "without --compare", exitUsage},
		{"--pid 0", "--pid 0: ", exitUsage},
		{"--pid 2000000000", "--pid 2000000000: there is no such process", exitUsage},
		{"--compare " + closed + " --compare-pid -3", "--compare-pid -3: ", exitUsage},
		{"--compare http://a", "--compare: ", exitUsage},
		{"--path / ", "not a valid path", exitUsage},
		{"--keep --path /a --rounds 2", "one round", exitUsage},
		{"--watchers 3 --sessions 3", "watchers and sessions exclude each other", exitUsage},
	} {
		got := coord(t, "", append([]string{"bench"}, strings.Fields(tt.args)...)...)
		if got.code != tt.code || got.out != "" || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("bench %s: %+v", tt.args, got)
		}
	}
}

// leaver is a reader of stdout that leaves after the first write.
type leaver struct{ writes []string }

func (l *leaver) Write(b []byte) (int, error) {
	l.writes = append(l.writes, string(b))
	if len(l.writes) > 1 {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

// TestBenchTellsEachLoad: each load is reported when it is done, and bench stops
// when nobody reads the reports.
func TestBenchTellsEachLoad(t *testing.T) {
	serve(t, noLimits)
	var out leaver
	args := append([]string{"coord", "bench", "--preset", "mixed,get,set", "--keep"}, strings.Fields(quick)...)
	if code := Main(args, strings.NewReader(""), &out, io.Discard); code != exitPipe {
		t.Errorf("exit code %d", code)
	}
	if len(out.writes) != 2 || !strings.HasPrefix(out.writes[0], "mixed: ") || !strings.HasPrefix(out.writes[1], "get: ") {
		t.Errorf("written: %q", out.writes)
	}
	if got := coord(t, "", "ls", "/"); strings.Count(got.out, "bench-") != 2 {
		t.Errorf("done: %s", got.out)
	}
}

// TestBenchOnTerminal: progress is shown, and Ctrl-C ends the run with the
// measurements so far and nothing left behind.
func TestBenchOnTerminal(t *testing.T) {
	serve(t, noLimits)
	x := onTerminal(t, "bench", "--mix", "create", "--warmup", "0s", "--duration", "1h", "--rate", "1000")
	eventually(t, "progress", func() bool { return strings.Contains(x.text(), "round 1 of 1: 2s of 1h0m0s, ") })
	_ = x.cmd.Process.Signal(syscall.SIGINT)
	code, text := x.wait()
	if code != 130 || !strings.Contains(text, "\ncreate  ") || !strings.HasSuffix(text, "coord: interrupted\n") {
		t.Errorf("%d %s", code, text)
	}
	if got := coord(t, "", "ls", "/"); got.out != "zookeeper\n" {
		t.Errorf("left behind: %q", got.out)
	}
}
