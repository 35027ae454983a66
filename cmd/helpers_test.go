package cmd

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"coord/server"
	"coord/server/text"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testdata is the folder of the golden files, whatever the current folder of a test is.
var testdata string

// TestMain runs the program itself if a test has started this binary as coord.
func TestMain(m *testing.M) {
	if os.Getenv("COORD_TEST_MAIN") != "" {
		os.Exit(Run())
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "COORD_") {
			_ = os.Unsetenv(name)
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	testdata = filepath.Join(wd, "testdata")
	completeWithin = time.Minute // what is offered must not depend on how busy the machine is
	os.Exit(m.Run())
}

// coordProcess is a command that runs the program in a process of its own.
func coordProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "COORD_TEST_MAIN=1", "GORACE=atexit_sleep_ms=0")
	cmd.Args[0] = "coord"
	return cmd
}

// hangsUp makes the processes of a test receive SIGHUP, which they would ignore if the
// tests run under nohup.
func hangsUp(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(heard) })
}

// outcome is the result of a command.
type outcome struct {
	code        int
	out, errOut string
}

// coord runs a command in this process, without a terminal.
func coord(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	code := Main(append([]string{"coord"}, args...), strings.NewReader(stdin), &out, &errOut)
	return outcome{code, out.String(), errOut.String()}
}

// serve runs a real server until the test ends, and sets COORD_SERVER to its address.
func serve(t *testing.T, change func(*server.Config)) string {
	t.Helper()
	dir := t.TempDir()
	cfg := server.DefaultConfig()
	cfg.DataDir = filepath.Join(dir, "data")
	cfg.Listen = []string{"unix:" + filepath.Join(dir, "s")}
	cfg.Name = "node1"
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, cfg, zerolog.Nop(), func(at server.Listening) { ready <- at.Addrs[0] })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("the server ended with ", err)
		}
	})
	select {
	case addr := <-ready:
		t.Setenv("COORD_SERVER", addr)
		return addr
	case err := <-ended:
		t.Fatal(err)
		return ""
	}
}

// fake is a server for behaviour that a real one does not show on demand: it
// answers each request except HELLO with the result of the handler; nil: no reply.
func fake(t *testing.T, handle func(r *text.Request) []byte) {
	t.Helper()
	fakeNode(t, reply(text.Reply{Kind: text.KindOK}), handle)
}

// fakeNode is fake with this answer to HELLO.
func fakeNode(t *testing.T, hello []byte, handle func(r *text.Request) []byte) {
	t.Helper()
	addr := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go fakeConn(nc, hello, handle)
		}
	}()
	t.Setenv("COORD_SERVER", "unix:"+addr)
}

func fakeConn(nc net.Conn, hello []byte, handle func(r *text.Request) []byte) {
	defer nc.Close()
	p := text.NewParser(text.DefaultLimits())
	var in []byte
	buf := make([]byte, 4<<10)
	for {
		req, n, err := p.Next(in)
		in = in[n:]
		switch {
		case err != nil:
			return
		case req == nil:
			n, err := nc.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:n]...)
			continue
		}
		out := hello
		if req.Verb != text.VerbHello {
			out = handle(req)
		}
		if string(out) == hangUp {
			return
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

// hangUp, as an answer, closes the connection.
const hangUp = "hang up"

func reply(r text.Reply) []byte { return r.Append(nil, text.FormatText, false) }

// golden compares got with a file, or writes the file with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join(testdata, file)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what came out (go test ./cmd -update writes it anew):\n%s", file, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "", ""
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return "line " + count(int64(i+1)) + "\ngot  " + a + "\nwant " + b
		}
	}
	return "no difference"
}

// document reads a page of docs.
func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits for an effect of another process or goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happened: " + what)
		}
	}
}
