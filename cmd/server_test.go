package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"coord/server"
	"coord/server/text"
)

// serveIn runs a server with this folder in a process of its own.
func serveIn(t *testing.T, dir string) (stop func()) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	p := coordProcess(t, "server", "--data-dir", dir, "--listen", "unix:"+sock)
	var log bytes.Buffer
	p.Stderr = &log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = p.Process.Signal(syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, log.String())
		}
	}
	t.Cleanup(stop)
	t.Setenv("COORD_SERVER", "unix:"+sock)
	eventually(t, "the server is ready", func() bool { return coord(t, "", "status", "--timeout", "1s").code == exitOK })
	return stop
}

// optionsOf are the options that result from a command line of coord server.
func optionsOf(t *testing.T, args ...string) (o serverOptions, warnings []string, err error) {
	t.Helper()
	l, err := parseLine(commands(), append([]string{"server"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	app := &cli.App{Name: "x", DisableSliceFlagSeparator: true, HideHelp: true, Flags: serverFlags(), Action: func(f *cli.Context) error {
		o, warnings, err = (&run{console: newConsole(t.Context(), nil, nil, nil), flags: f, line: l}).options()
		return nil
	}}
	if runErr := app.RunContext(context.Background(), append([]string{"x"}, l.flags...)); runErr != nil {
		t.Fatal(runErr)
	}
	return o, warnings, err
}

// TestPrecedence: a flag overrides the environment, which overrides the file.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(file, []byte("name=file\nclientPort=1\nsnapshot-keep=7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	show := func(args ...string) string {
		o, _, err := optionsOf(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %v %d", o.Name, o.Listen, o.SnapshotKeep)
	}
	t.Setenv("COORD_CLUSTER", "")
	if got := show("--config", file); got != "file [:1] 7" {
		t.Error(got)
	}
	t.Setenv("COORD_NAME", "env")
	t.Setenv("COORD_LISTEN", "a:1,b:2")
	t.Setenv("COORD_CONFIG", file)
	if got := show(); got != "env [a:1 b:2] 7" {
		t.Error(got)
	}
	if got := show("--name", "flag", "--listen", "c:3", "--listen=unix:/d", "--snapshot-keep", "2"); got != "flag [c:3 unix:/d] 2" {
		t.Error(got)
	}
}

func TestServerRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	files := map[string]string{
		"zoo.cfg": "\nserver.1=h:1:2\nserver.2=h:3:4\n", "bad.cfg": "\nserver.1=h:1\n", "single.cfg": "standaloneEnabled=false\n",
		"secret": "the secret of the test", "empty": "\n", "long": strings.Repeat("x", maxSecretBytes+1),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("open", []byte("the secret of the test"), 0o640); err != nil {
		t.Fatal(err)
	}
	const noSecret = ":2888 and :2889 would be open to other hosts, and the cluster has no secret"
	for _, tt := range []struct{ env, args, want string }{
		{"", "--join h", noSecret},
		{"", "--expect 3", noSecret},
		{"COORD_EXPECT=3", "", noSecret},
		{"", "--peer-listen 127.0.0.1:1", ":2889 would be open"},
		{"", "--gossip-listen 127.0.0.1:1", ":2888 would be open"},
		{"", "--gossip-listen 127.0.0.1:1 --peer-listen 0.0.0.0:1", "0.0.0.0:1 would be open"},
		{"", "--name a --initial a=h:1,b=h:2", ":1 and :2889 would be open"},
		{"", "--config single.cfg", noSecret},
		{"", "--observer", "an observer needs join"},
		{"COORD_OBSERVER=true", "", "an observer needs join"},
		{"COORD_OBSERVER=perhaps", "", "COORD_OBSERVER"},
		{"COORD_SECRET=the-secret-of-the-test", "--expect 1", "founded by 2 to 32 nodes"},
		{"COORD_SECRET=the-secret-of-the-test", "--initial a=h:1,b=h:2 --join h", "initial and join exclude each other"},
		{"", "--secret-file secret --initial a=h:1,b=h:2 --expect 2 --name a", "expect and initial exclude each other"},
		{"", "--secret-file secret --initial a=h:1,b=h:2 --name c", "initial does not list this node, whose name is c"},
		{"", "--name a --initial a=127.0.0.1:1,b=[::1]:2", "initial: b: this node listens for other nodes on 127.0.0.1:1 and cannot reach [::1]:2"},
		{"", "--secret-file secret --initial a=h:1:2:3", `--initial: "a=h:1:2:3" is not NAME=HOST:PEER-PORT`},
		{"", "--secret-file secret --advertise 0.0.0.0", `"0.0.0.0" is not a host`},
		{"", "--secret-file secret --sync-limit 10ms", "sync-limit is 10ms"},
		{"", "--secret-file secret --raft-tick soon", "--raft-tick: "},
		{"", "--secret-file secret --heartbeat-ticks 10", "heartbeat-ticks is 10"},
		{"", "--secret-file none", "secret-file none: no such file"},
		{"", "--secret-file empty", "secret-file empty: it is empty"},
		{"", "--secret-file long", "secret-file long: it is longer than 4096 bytes"},
		{"", "--secret-file .", "secret-file .: "},
		{"", "--secret-file open", "other users may read or change it (mode 0640): run chmod 600"},
		{"COORD_SECRET_FILE=open", "", "other users may read or change it"},
		{"", "--secret x", "did you mean --secret-file?"},
		{"", "--config bad.cfg", "bad.cfg: line 2: server.1: expected host:PEER:GOSSIP"},
		{"", "--config zoo.cfg", "coord-data/myid is missing"},
		{"", "--config zoo.cfg --join h", "which also define the other nodes"},
		{"", "--config none", "none: no such file"},
		{"", "--listen nowhere", "--listen: "},
		{"COORD_LISTEN=nowhere", "", "COORD_LISTEN: "},
		{"", "--max-client-conns -1", "--max-client-conns: "},
		{"", "--max-frame 10", "the largest frame is 10 bytes"},
		{"", "--snapshot-every soon", "--snapshot-every: "},
		{"", "--log-level loud", "--log-level: "},
		{"", "--super-digest x", "the super digest is not user:hash"},
		{"", "--super-digest a:b:c", "the super digest is not user:hash"},
		{"", "--super-digest super:plain", "is not the base64 of a SHA-1, so no password would match; to make it: printf %s USER:PASSWORD | openssl"},
		{"", "--super-digest super:xQJmxLMiHGwaqBvst5y6rkB6HQ==", "is not the base64 of a SHA-1"},
		{"", "--super-digest super:xQJmxLMiHGwaqBvst5y6rkB6HQt=", "is not the base64 of a SHA-1"},
		{"COORD_SUPER_DIGEST=super:", "", "is not the base64 of a SHA-1"},
		{"", "--lisen a:1", "did you mean --listen?"},
	} {
		t.Run(tt.env+tt.args, func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			got := coord(t, "", append([]string{"server"}, strings.Fields(tt.args)...)...)
			if got.code != exitUsage || got.out != "" || !strings.Contains(got.errOut, tt.want) || strings.Contains(got.errOut, "secret of the test") ||
				strings.Contains(got.errOut, "plain") {
				t.Errorf("%+v", got)
			}
			if _, err := os.Stat(server.DefaultDataDir); err == nil {
				t.Error("it made a data folder")
			}
		})
	}
}

// TestFirstStartFsyncFails: a failing disk is reported like at any other start.
func TestFirstStartFsyncFails(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is missing; no fsync is made to fail")
	}
	dir := t.TempDir()
	p := coordProcess(t, "server", "--data-dir", filepath.Join(dir, "data"), "--listen", "unix:"+filepath.Join(dir, "s"))
	p.Args = append([]string{strace, "-f", "-qq", "-o", "/dev/null", "-P", filepath.Join(dir, "data", "snapshot"), "-e", "trace=fsync",
		"-e", "inject=fsync:error=EIO", p.Path}, p.Args[1:]...)
	p.Path = strace
	out, err := p.CombinedOutput()
	if strings.Contains(string(out), "ptrace") || strings.Contains(string(out), "invalid") {
		t.Skipf("strace does not work here: %s", out)
	}
	if p.ProcessState.ExitCode() != exitFatalIO || !strings.Contains(string(out), "input/output error") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestServerInUse(t *testing.T) {
	addr := serve(t, nil)
	if got := coord(t, "", "server", "--listen", addr, "--data-dir", t.TempDir()); got.code != exitInUse || !strings.Contains(got.errOut, strings.TrimPrefix(addr, "unix:")) {
		t.Errorf("a busy address: %+v", got)
	}
	zk := filepath.Join(t.TempDir(), "zk")
	if err := os.MkdirAll(filepath.Join(zk, "version-2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "", "server", "--listen", "127.0.0.1:0", "--data-dir", zk); got.code != exitUnsafe || !strings.Contains(got.errOut, "hint: coord restore --from-zookeeper") {
		t.Errorf("ZooKeeper's folder: %+v", got)
	}
}

// TestServerLog: unless stderr is a terminal, every line is JSON, with a time in
// nanoseconds; SIGTERM, SIGINT and SIGHUP end the server with exit code 0.
func TestServerLog(t *testing.T) {
	hangsUp(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		p := coordProcess(t, "server", "--data-dir", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0", "--log-format", "console")
		stderr, err := p.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		var seen []string
		for d := json.NewDecoder(stderr); ; {
			var line struct{ Level, Message, Time string }
			if err := d.Decode(&line); err != nil {
				break
			}
			seen = append(seen, line.Message)
			if line.Level == "" || len(line.Time) < len("2006-01-02T15:04:05.0Z") {
				t.Errorf("%+v", line)
			}
			if line.Message == "ready" {
				if err := p.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := p.Wait(); err != nil || !strings.Contains(strings.Join(seen, ";"), "the log is written as JSON") || seen[len(seen)-1] != "stopped" {
			t.Errorf("%v: %v %q", sig, err, seen)
		}
	}
}

// exitOf is the exit code of a process, or 128 plus its signal.
func exitOf(err error) int {
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return 0
	}
	if s := e.Sys().(syscall.WaitStatus); s.Signaled() {
		return 128 + int(s.Signal())
	}
	return e.ExitCode()
}

// TestSignals: a signal ends a command that waits, with the signal's exit code.
func TestSignals(t *testing.T) {
	asked := make(chan text.Verb, 10)
	fake(t, func(r *text.Request) []byte {
		defer func() { asked <- r.Verb }()
		if r.Verb == text.VerbSnapshot {
			return append(reply(text.Reply{Kind: text.KindOK}), reply(text.Reply{Kind: text.KindChunk, Data: []byte("begun")})...)
		}
		return nil
	})
	t.Chdir(t.TempDir())
	for _, tt := range []struct {
		args string
		sig  syscall.Signal
		code int
		err  string
	}{
		{"get /a", syscall.SIGINT, 130, "coord: interrupted\n"},
		{"get /a", syscall.SIGTERM, 143, "coord: terminated\n"},
		{"set /a x", syscall.SIGTERM, 143, "coord: terminated: /a: outcome unknown"},
		{"snapshot b", syscall.SIGINT, 130, "coord: interrupted\n"},
		{"-q get /a", syscall.SIGINT, 130, ""},
	} {
		p := coordProcess(t, strings.Fields(tt.args)...)
		var stderr bytes.Buffer
		p.Stderr = &stderr
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := p.Process.Signal(tt.sig); err != nil {
			t.Fatal(err)
		}
		if code := exitOf(p.Wait()); code != tt.code || !strings.HasPrefix(stderr.String(), tt.err) || tt.err == "" && stderr.Len() > 0 {
			t.Errorf("coord %s: %d %q, want %d", tt.args, code, stderr.String(), tt.code)
		}
	}
	if left, _ := filepath.Glob("*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A command that waits for stdin.
	p := coordProcess(t, "set", "/a", "-")
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 100_000)); err != nil { // more than a pipe holds, so the command is reading
		t.Fatal(err)
	}
	_ = p.Process.Signal(syscall.SIGINT)
	if code := exitOf(p.Wait()); code != 130 {
		t.Errorf("reading stdin: %d", code)
	}
}

// TestReaderLeaves: when the reader of stdout leaves, the command ends silently.
func TestReaderLeaves(t *testing.T) {
	fake(t, func(r *text.Request) []byte { // an endless list
		l := text.Reply{Kind: text.KindList, Fields: []text.Field{text.Int("more", 1)}}
		for i := range 500 {
			l.Items = append(l.Items, text.Reply{Kind: text.KindItem, Arg: r.After + string(rune('a' + i%26))[:1]})
		}
		l.Items[len(l.Items)-1].Arg = "x"
		return reply(l)
	})
	p := coordProcess(t, "ls", "/")
	var stderr bytes.Buffer
	p.Stderr = &stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 10))
	_ = out.Close()
	if code := exitOf(p.Wait()); code != exitPipe || stderr.Len() > 0 {
		t.Errorf("%d %q", code, stderr.String())
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: a full disk behind stdout is not tried")
	}
	defer full.Close()
	p = coordProcess(t, "version")
	p.Stdout = full
	if code := exitOf(p.Run()); code != exitLimit {
		t.Errorf("a full disk behind stdout: %d", code)
	}
}

// TestServerUnderNohup: a server that was started under nohup keeps ignoring HUP.
func TestServerUnderNohup(t *testing.T) {
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		t.Skip("nohup is missing; no server is started under it")
	}
	socket := filepath.Join(t.TempDir(), "s")
	p := coordProcess(t, "server", "--data-dir", filepath.Join(t.TempDir(), "d"), "--listen", "unix:"+socket)
	p.Args = append([]string{nohup, p.Path}, p.Args[1:]...)
	p.Path = nohup
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COORD_SERVER", "unix:"+socket)
	eventually(t, "it serves", func() bool { return coord(t, "", "exists", "/").code == exitOK })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, ignored, _ := strings.Cut(string(status), "SigIgn:\t")
	ignored, _, _ = strings.Cut(ignored, "\n")
	if mask, err := strconv.ParseUint(ignored, 16, 64); err != nil || mask&1 == 0 { // HUP is bit 0
		t.Errorf("it ignores %q: %v", ignored, err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}
