package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// running is a coord in a process of its own; its output can be read while it runs.
type running struct {
	t   *testing.T
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
	err bytes.Buffer
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// begin starts coord. Its temporary files are in a folder of their own.
func begin(t *testing.T, args ...string) *running {
	t.Helper()
	x := &running{t: t, cmd: coordProcess(t, args...)}
	x.cmd.Stdout, x.cmd.Stderr = lockedWriter{&x.mu, &x.out}, lockedWriter{&x.mu, &x.err}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *running) stdout() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

func (x *running) stderr() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err.String()
}

// says waits for output on stdout.
func (x *running) says(what string) {
	x.t.Helper()
	eventually(x.t, fmt.Sprintf("%q in %q and %q", what, x.stdout(), x.stderr()), func() bool {
		return strings.Contains(x.stdout(), what)
	})
}

func (x *running) complains(what string) {
	x.t.Helper()
	eventually(x.t, fmt.Sprintf("%q in %q", what, x.stderr()), func() bool { return strings.Contains(x.stderr(), what) })
}

func (x *running) signal(s syscall.Signal) { _ = x.cmd.Process.Signal(s) }

// ends waits until the process ends, with this exit code.
func (x *running) ends(code int) {
	x.t.Helper()
	if got := exitOf(x.cmd.Wait()); got != code {
		x.t.Errorf("%v: exit code %d, not %d: %q %q", x.cmd.Args, got, code, x.stdout(), x.stderr())
	}
}

// ok runs a command that must succeed, in this process.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	got := coord(t, "", args...)
	if got.code != exitOK {
		t.Fatalf("%v: %+v", args, got)
	}
	return got.out
}

// takes waits until the process has read everything that a server in this process has sent, and has
// finished with it: all its threads sleep.
func (x *running) takes() {
	x.t.Helper()
	eventually(x.t, "it reads all", func() bool {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			x.t.Fatal(err)
		}
		for _, f := range fds {
			fd, _ := strconv.Atoi(f.Name())
			if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || int(cred.Pid) != x.cmd.Process.Pid {
				continue
			}
			if n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ); err != nil || n > 0 {
				return false
			}
		}
		return true
	})
	eventually(x.t, "it rests", func() bool {
		before, asleep := x.threads()
		after, _ := x.threads()
		return asleep && before == after
	})
}

// threads says whether all threads of the process sleep, and how often each has gone to sleep. Reading
// that takes time: if two readings are the same, no thread has run in between.
func (x *running) threads() (slept string, asleep bool) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", x.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		x.t.Fatal(files, err)
	}
	asleep = true
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", false // the thread has just ended
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "State:") && !strings.Contains(line, "S (sleeping)") {
				asleep = false
			}
			if strings.Contains(line, "_ctxt_switches:") {
				slept += f + " " + line
			}
		}
	}
	return slept, asleep
}

// gone waits until a process has ended, or is a zombie that its parent must reap.
func gone(t *testing.T, pid string) {
	t.Helper()
	eventually(t, "the end of process "+pid, func() bool {
		b, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
		_, after, _ := strings.Cut(string(b), ") ")
		return err != nil || strings.HasPrefix(after, "Z")
	})
}

func TestWatchUsage(t *testing.T) {
	t.Setenv("COORD_SERVER", "127.0.0.1:1")
	for _, test := range []struct{ args, says string }{
		{"", "an argument is missing"},
		{"app", "a path begins with /"},
		{"/app true", "the command to run must stand after --"},
		{"-- true", "PATH must stand before --"},
		{"--exec true /app -- true", "exclude each other"},
		{"--exec 'x /app", "a quote is not closed"},
		{"--exec= /app", "the command is empty"},
		{"--queue --drop /app -- true", "exclude each other"},
		{"--drop /app", "need a command"},
		{"--batch /app", "coord watch /app -- COMMAND"},
		{"--debounce 0s /app", "expected more than 0"},
		{"--since 7x /app", "a zxid such as"},
		{"--since= /app", "a zxid or last"},
		{"--since 0x7 --state f /app", "--since last or no --since"},
		{"--state= /app", "--since last or no --since"},
		{"--until VALUE /app", "VALUE=x, exists or gone"},
		{"--until there /app", "VALUE=x, exists or gone"},
	} {
		if got := coord(t, "", append([]string{"watch"}, strings.Fields(test.args)...)...); got.code != exitUsage || !strings.Contains(got.errOut, test.says) {
			t.Errorf("watch %s: %+v", test.args, got)
		}
	}
	for args, code := range map[string]int{
		"/app":                              exitNoAnswer,
		"/app -- no-such-command":           exitNoCommand,
		"/app --exec no-such-command":       exitNoCommand,
		"/app -- ./nope":                    exitNoCommand,
		"/app -- /etc/passwd":               exitNotStarted,
		"/app -- /":                         exitNotStarted,
		"--once /app -- true":               exitNotBegun,
		"/app -- true":                      exitNoAnswer,
		"--until exists --timeout 1s /app":  exitNoAnswer,
		"--until exists --timeout -1s /app": exitUsage,
	} {
		if got := coord(t, "", append([]string{"watch"}, strings.Fields(args)...)...); got.code != code {
			t.Errorf("watch %s: %+v, not %d", args, got, code)
		}
	}
}

func TestWatchPrints(t *testing.T) {
	serve(t, nil)
	ok(t, "create", "/app", "v0")
	all := begin(t, "watch", "-r", "--initial", "/")
	one := begin(t, "watch", "--json", "--initial", "/app")
	all.says("/app\n")
	one.says("\n")
	ok(t, "create", "/app/x", "1")
	ok(t, "set", "/app", "\xff")
	ok(t, "rm", "/app/x")
	all.says("deleted")
	eventually(t, "four lines", func() bool { return strings.Count(one.stdout(), "\n") == 4 })
	for _, x := range []*running{all, one} {
		x.signal(syscall.SIGINT)
		x.ends(130)
	}
	zxid := regexp.MustCompile("0x[0-9a-f]+")
	var lines []string
	for l := range strings.Lines(zxid.ReplaceAllString(all.stdout(), "Z")) {
		if !strings.Contains(l, "/zookeeper") {
			lines = append(lines, l)
		}
	}
	if got := strings.Join(lines, ""); got != "initial Z 0 /\ninitial Z 0 /app\ncreated Z 0 /app/x\nchanged Z 1 /app\ndeleted Z - /app/x\n" {
		t.Error(got)
	}
	if got := zxid.ReplaceAllString(one.stdout(), "Z"); got != `{"v":1,"event":"initial","path":"/app","zxid":"Z","version":0,"data":"v0"}
{"v":1,"event":"children","path":"/app","zxid":"Z"}
{"v":1,"event":"changed","path":"/app","zxid":"Z","version":1,"data64":"/w=="}
{"v":1,"event":"children","path":"/app","zxid":"Z"}
` {
		t.Error(got)
	}
}

// czxid is the zxid at which a znode was created.
func czxid(t *testing.T, path string) string {
	t.Helper()
	for l := range strings.Lines(ok(t, "get", "-s", path)) {
		if z, is := strings.CutPrefix(strings.TrimSpace(l), "czxid="); is {
			return z
		}
	}
	t.Fatal("no czxid")
	return ""
}

func TestWatchUntil(t *testing.T) {
	serve(t, nil)
	ok(t, "create", "/app", "v")
	waiting := map[*running]int{}
	for args, code := range map[string]int{
		"--until exists /app":                     exitOK,
		"--until gone /nope":                      exitOK,
		"--until VALUE=v /app":                    exitOK,
		"--until value= --timeout 4s /app":        exitTimeout,
		"--until exists --timeout 4s /nope":       exitTimeout,
		"--until gone --timeout 4s /app":          exitTimeout,
		"--once --timeout 4s /app":                exitTimeout,
		"--once --timeout 4s /app -- true":        exitNotInTime,
		"--until exists --initial /app":           exitOK,
		"--until VALUE=v --since 0x0 /app":        exitOK,
		"--once --initial /nope":                  exitOK,
		"--until gone --timeout 4s /app -- false": exitTimeout,
	} {
		// The watches that time out run side by side. Their time must also be enough for a busy server to
		// answer.
		waiting[begin(t, append([]string{"watch"}, strings.Fields(args)...)...)] = code
	}
	for x, code := range waiting {
		x.ends(code)
	}
	if got := ok(t, "watch", "--since", "0x0", "--once", "-r", "/app"); !strings.HasPrefix(got, "created ") {
		t.Error("since the beginning: ", got)
	}
	since := czxid(t, "/app")
	ok(t, "set", "/app", "first")
	x := begin(t, "watch", "--until", "VALUE=ready", "--since", since, "/app")
	x.says("changed")
	ok(t, "set", "/app", "not yet")
	ok(t, "set", "/app", "ready")
	ok(t, "set", "/app", "later")
	x.ends(exitOK)
	if got := x.stdout(); strings.Count(got, "changed") != 3 {
		t.Error(got)
	}
	// The command still runs for the change that ends the watch.
	x = begin(t, "watch", "--until", "gone", "--initial", "/app", "--", "sh", "-c", "echo $COORD_EVENT")
	x.says("initial")
	ok(t, "rm", "/app")
	x.ends(exitOK)
	if got := x.stdout(); got != "initial\ndeleted\n" {
		t.Error(got)
	}
}

func TestWatchRuns(t *testing.T) {
	serve(t, nil)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("COORD_VALUE", "of an outer watch")
	script := `echo "$COORD_EVENT $COORD_PATH ${COORD_ZXID%%?} $COORD_VERSION <$COORD_VALUE> ${COORD_VALUE_FILE:+file} $(cat "${COORD_VALUE_FILE:-/dev/null}" | wc -c) $(wc -c)"`
	big := strings.Repeat("x", maxEnvValue+1)
	ok(t, "create", "/app", "v")
	x := begin(t, "watch", "--initial", "/app", "--", "sh", "-c", script)
	x.says("\n")
	base := czxid(t, "/app")
	base = base[:len(base)-1]
	for _, change := range [][]string{
		{"set", "/app", big[1:]}, {"set", "/app", big}, {"set", "/app", "a\x00b"}, {"set", "/app", ""}, {"create", "/app/x"}, {"rm", "-r", "-y", "/app"},
	} {
		ok(t, change...)
	}
	x.says("deleted")
	want := fmt.Sprintf("initial /app %s 0 <v>  0 1\nchanged /app %s 1 <%s>  0 32768\nchanged /app %s 2 <> file 32769 32769\nchanged /app %s 3 <> file 3 3\n"+
		"changed /app %s 4 <>  0 0\nchildren /app %s  <>  0 0\n", base, base, big[1:], base, base, base, base)
	if got := x.stdout(); !strings.HasPrefix(got, want) {
		t.Errorf("%s, not\n%s", got, want)
	}
	// After a value that nobody reads, or a failed run, the watch continues.
	x.signal(syscall.SIGTERM)
	x.ends(143)
	ok(t, "create", "/app", strings.Repeat("y", 900<<10))
	x = begin(t, "watch", "--initial", "/app", "--exec", "sh -c 'echo ran; exit 3'")
	x.complains("sh ended with exit code 3")
	ok(t, "set", "/app", strings.Repeat("z", 900<<10))
	x.says("ran\nran\n")
	x.signal(syscall.SIGINT)
	x.ends(130)
	if got := x.stderr(); strings.Contains(got, "pipe") || !strings.Contains(got, "coord: initial /app at 0x") {
		t.Error(got)
	}
	// What a run leaves in the background does not block the watch, even if it has
	// not read the value.
	x = begin(t, "watch", "--initial", "/app", "--", "sh", "-c", "exec 3<&0; sleep 1000 <&3 >/dev/null 2>&1 & echo $!")
	x.says("\n")
	ok(t, "set", "/app", strings.Repeat("x", 900<<10))
	eventually(t, "two runs", func() bool { return strings.Count(x.stdout(), "\n") == 2 })
	x.signal(syscall.SIGINT)
	x.ends(130)
	for pid := range strings.FieldsSeq(x.stdout()) {
		n, _ := strconv.Atoi(pid)
		_ = syscall.Kill(n, syscall.SIGKILL)
	}
	// The exit code of the single run becomes that of coord.
	for _, code := range []int{0, 3, 16, 125} {
		x = begin(t, "watch", "--initial", "--once", "/app", "--", "sh", "-c", fmt.Sprint("exit ", code))
		x.ends(code)
	}
	x = begin(t, "watch", "--initial", "--once", "/app", "--", "sh", "-c", "kill -9 $$")
	x.ends(137)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Error("temporary files are left: ", left)
	}
}

func TestWatchBusy(t *testing.T) {
	serve(t, nil)
	t.Setenv("DIR", t.TempDir())
	// Each run prints what it is for and waits for permission to end.
	script := `echo "begin $COORD_VALUE${COORD_EVENTS:+ of $COORD_EVENTS}"; while [ ! -e "$DIR/go" ]; do sleep 0.01; done; echo "end $COORD_VALUE"`
	let := filepath.Join(os.Getenv("DIR"), "go")
	ok(t, "create", "/app", "0")
	ok(t, "create", "/app/x", "0")
	for _, test := range []struct {
		flags string
		first string // awaited after the changes, before the run may end
		want  string
	}{
		{"", "", "begin 0,end 0,begin 1,end 1,begin 2,end 2,begin 3,end 3"},
		{"--queue --batch", "", "begin 0 of 1,end 0,begin 3 of 3,end 3"},
		{"--queue --debounce 20ms", "", "begin 0,end 0,begin 3,end 3"},
		{"--drop", "", "begin 0,end 0,begin 9,end 9"},
		{"--restart", "begin 3\n", "begin 3,end 3"},
		{"--restart --debounce 1s", "begin 3\n", "begin 0,begin 3,end 3"},
		{"--restart --batch", "begin 3 of", "begin 0 of 1,begin 3 of"},
	} {
		_ = os.Remove(let)
		ok(t, "set", "/app", "0")
		args := append([]string{"watch", "--initial", "/app"}, strings.Fields(test.flags)...)
		x := begin(t, append(args, "--", "sh", "-c", script)...)
		x.says("begin 0")
		if test.flags == "--restart --debounce 1s" { // all at once, however long a write takes
			ok(t, "txn", "-f", opsFile(t, "SET /app 1\nSET /app 2\nSET /app 3\n"))
		} else {
			for i := range 3 {
				ok(t, "set", "/app", fmt.Sprint(i+1))
			}
		}
		if test.first != "" {
			x.says(test.first)
		} else if test.flags != "" { // all three arrive during the run
			x.takes()
		}
		if err := os.WriteFile(let, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if test.flags == "--drop" {
			x.complains("left out during the run: 3")
			ok(t, "set", "/app", "9")
			x.says("end 9")
		} else {
			x.says("end 3")
		}
		x.signal(syscall.SIGINT)
		x.ends(130)
		got := strings.ReplaceAll(strings.TrimSpace(x.stdout()), "\n", ",")
		switch {
		case test.flags == "--restart": // how many of the runs 1 and 2 began depends on timing
			if !strings.HasPrefix(got, "begin 0,begin ") || !strings.HasSuffix(got, test.want) || strings.Count(got, "end") != 1 {
				t.Errorf("%s: %s", test.flags, got)
			}
		case test.flags == "--restart --batch":
			if !strings.Contains(got, "begin 3 of 4") || strings.Count(got, "end") != 1 {
				t.Errorf("%s: %s", test.flags, got)
			}
		case got != test.want:
			t.Errorf("%s: %s, not %s", test.flags, got, test.want)
		}
	}
}

func TestWatchBatch(t *testing.T) {
	serve(t, nil)
	ok(t, "create", "/app", "v")
	for _, name := range []string{"a", "b", "c"} {
		ok(t, "create", "/app/"+name, name)
	}
	x := begin(t, "watch", "-r", "--once", "--debounce", "10ms", "--batch", "--initial", "/app", "--", "cat")
	x.ends(exitOK)
	got := x.stdout()
	if strings.Count(got, "\n") != 4 || strings.Count(got, `{"v":1,"event":"initial","path":"/app`) != 4 || !strings.Contains(got, `"data":"c"}`) {
		t.Error(got)
	}
}

// TestWatchSignals: a signal to coord reaches the command and the processes that it
// has started, and all of them end, however they handle signals.
func TestWatchSignals(t *testing.T) {
	serve(t, nil)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ok(t, "create", "/app", strings.Repeat("x", 40<<10))
	hangsUp(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		x := begin(t, "watch", "--initial", "/app", "--", "sh", "-c", "trap 'echo told; exit 0' INT TERM HUP; sleep 1000 & echo $$; echo $!; wait")
		x.says("\n")
		eventually(t, "two lines", func() bool { return strings.Count(x.stdout(), "\n") >= 2 })
		x.signal(sig)
		x.ends(128 + int(sig))
		lines := strings.Fields(x.stdout())
		if len(lines) != 3 || lines[2] != "told" {
			t.Errorf("%v: %q", sig, lines)
			continue
		}
		gone(t, lines[0])
		gone(t, lines[1])
	}
	x := begin(t, "watch", "--initial", "/app", "--", "sh", "-c", "trap 'echo told' INT; trap '' TERM; echo $$; while :; do sleep 0.01; done")
	x.says("\n")
	x.signal(syscall.SIGINT)
	x.says("told")           // otherwise the two signals could be merged into one
	x.signal(syscall.SIGINT) // the second one ends the waiting
	x.ends(130)
	gone(t, strings.Fields(x.stdout())[0])
	x = begin(t, "watch", "--initial", "/app", "--", "sh", "-c", "trap 'echo usr1' USR1; echo $$; while :; do sleep 0.01; done")
	x.says("\n")
	x.signal(syscall.SIGUSR1)
	x.says("usr1")
	x.signal(syscall.SIGTERM)
	x.ends(143)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Error("temporary files are left: ", left)
	}
	x = begin(t, "watch", "--initial", "/app", "--", "sh", "-c", "echo $$; exec sleep 1000")
	x.says("\n")
	x.signal(syscall.SIGKILL)
	_ = x.cmd.Wait()
	gone(t, x.stdout())
}

// TestWatchReaderLeaves: when the reader of stdout leaves (| head), the watch ends
// although nothing changes any more.
func TestWatchReaderLeaves(t *testing.T) {
	serve(t, nil)
	ok(t, "create", "/app", "v")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	x := &running{t: t, cmd: coordProcess(t, "watch", "--initial", "/app")}
	x.cmd.Stdout, x.cmd.Stderr = w, lockedWriter{&x.mu, &x.err}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	x.ends(141)
	if x.stderr() != "" {
		t.Error(x.stderr())
	}
}

func TestWatchSinceLast(t *testing.T) {
	serve(t, nil)
	state := filepath.Join(t.TempDir(), "s")
	ok(t, "create", "/app", "0")
	watch := func(flags ...string) *running {
		return begin(t, append([]string{"watch", "/app", "--state", state}, flags...)...)
	}
	x := watch()
	eventually(t, "the file", func() bool { b, _ := os.ReadFile(state); return len(b) > 0 }) // it watches
	if got := coord(t, "", "watch", "/app", "--since", "last", "--state", state); got.code != exitInUse || !strings.Contains(got.errOut, "a file of its own") {
		t.Errorf("two with one file: %+v", got)
	}
	ok(t, "set", "/app", "1")
	x.says("1 /app")
	x.signal(syscall.SIGKILL)
	_ = x.cmd.Wait()
	ok(t, "set", "/app", "2")
	ok(t, "create", "/app/x", "2")
	x = watch("--debounce", "1ms")
	x.says("children")
	x.signal(syscall.SIGTERM)
	x.ends(143)
	if got := x.stdout(); strings.Count(got, "\n") != 2 || !strings.Contains(got, " 2 /app\n") && !strings.HasPrefix(got, "changed") {
		t.Error(got)
	}
	// A failed run is repeated, a successful one is not.
	ok(t, "set", "/app", "3")
	x = watch("--", "sh", "-c", "echo failing $COORD_VALUE; exit 1")
	x.complains("ended with exit code 1")
	x.signal(syscall.SIGINT)
	x.ends(130)
	x = watch("--once", "--", "sh", "-c", "echo $COORD_VALUE")
	x.ends(exitOK)
	if got := x.stdout(); got != "3\n" {
		t.Error(got)
	}
	ok(t, "set", "/app", "4")
	x = watch("--once", "--", "sh", "-c", "echo $COORD_VALUE")
	x.ends(exitOK)
	if got := x.stdout(); got != "4\n" {
		t.Error(got)
	}
	if got := coord(t, "", "watch", "/other", "--state", state); got.code != exitUsage || !strings.Contains(got.errOut, "of a watch of /app") {
		t.Errorf("the file of another path: %+v", got)
	}
	if err := os.WriteFile(state, []byte("my diary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "", "watch", "/app", "--state", state); got.code != exitUsage || !strings.Contains(got.errOut, "is not the state") {
		t.Errorf("another file: %+v", got)
	}
	if b, _ := os.ReadFile(state); string(b) != "my diary\n" {
		t.Error("it was overwritten")
	}
}

// TestWatchForgotten: changes that the server no longer remembers.
func TestWatchForgotten(t *testing.T) {
	var stat text.Stat
	there := true
	fake(t, func(r *text.Request) []byte {
		ok := text.Reply{Kind: text.KindOK}
		switch r.Verb {
		case text.VerbFollow:
			if r.Zxid == 7 {
				return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrCompacted, Message: "forgotten"})
			}
			ok.Fields = []text.Field{text.Int(text.KeyID, 1), text.Zxid(text.KeyZxid, 100)}
			event := text.Reply{Kind: text.KindEvent, Arg: "deleted", Fields: []text.Field{text.Str(text.KeyPath, "/app"), text.Zxid(text.KeyZxid, 101)}}
			return append(reply(ok), reply(event)...)
		case text.VerbExists, text.VerbGet, text.VerbTree:
			if !there {
				return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoNode})
			}
			if r.Verb == text.VerbGet {
				ok.Kind, ok.Data = text.KindData, []byte("v")
			}
			ok.Fields = text.AppendStat(nil, &stat)
			return reply(ok)
		}
		return []byte(hangUp)
	})
	stat.Mzxid = 50
	if got := coord(t, "", "watch", "--since", "0x7", "/app"); got.code != exitForgotten || !strings.Contains(got.errOut, "hint: --initial reports the present state") || got.out != "" {
		t.Errorf("it has changed: %+v", got)
	}
	if got := coord(t, "", "watch", "--since", "0x7", "--once", "--initial", "/app"); got.code != exitOK || got.out != "initial 0x32 0 /app\n" {
		t.Errorf("--initial: %+v", got)
	}
	stat.Mzxid = 6
	if got := coord(t, "", "watch", "--since", "0x7", "--once", "/app"); got.code != exitOK || got.out != "deleted 0x65 - /app\n" {
		t.Errorf("nothing has changed: %+v", got)
	}
	there = false
	if got := coord(t, "", "watch", "--since", "0x7", "--once", "/app"); got.code != exitForgotten {
		t.Errorf("it was deleted: %+v", got)
	}
	for _, how := range [][]string{{}, {"-r"}} {
		if got := coord(t, "", append([]string{"watch", "--since", "0x7", "--once", "--initial", "/app"}, how...)...); got.code != exitOK || got.out != "missing 0x0 - /app\n" {
			t.Errorf("--initial %v: %+v", how, got)
		}
	}
}

// TestFeedResumes: changes of a txn that a replay repeats are reported once.
func TestFeedResumes(t *testing.T) {
	f := &feed{path: "/a", queue: newBacklog()}
	f.mu.seen = position{5, 2}
	f.mu.skip = position{5, 2}
	for _, e := range []client.Event{
		{Type: "created", Path: "/a", Zxid: 5}, {Type: "created", Path: "/a/x", Zxid: 5}, {Type: "created", Path: "/a/y", Zxid: 5}, {Type: "changed", Path: "/a", Zxid: 6},
	} {
		f.event(e)
	}
	var got []string
	for c, ok := f.queue.take(); ok; c, ok = f.queue.take() {
		got = append(got, fmt.Sprint(c.Path, c.at))
	}
	if fmt.Sprint(got) != "[/a/y{5 3} /a{6 1}]" {
		t.Error(got)
	}
}

// TestBacklogIsLimited: if changes are not delivered, the feed stops, and nothing is lost.
func TestBacklogIsLimited(t *testing.T) {
	b := newBacklog()
	data := make([]byte, backlogBytes/4)
	for range 4 {
		b.push(change{Event: client.Event{Type: "changed", Data: data}})
	}
	if !b.full() {
		t.Fatal("it is not full")
	}
	pushed := make(chan struct{})
	go func() {
		b.push(change{Event: client.Event{Type: "deleted"}})
		close(pushed)
	}()
	select {
	case <-pushed:
		t.Fatal("there was room")
	case <-time.After(20 * time.Millisecond):
	}
	for range 4 {
		if c, ok := b.take(); !ok || c.Type != "changed" {
			t.Fatal(c.Type, ok)
		}
	}
	<-pushed
	if c, ok := b.take(); !ok || c.Type != "deleted" {
		t.Fatal(c.Type, ok)
	}
	b.push(change{})
	b.push(change{at: position{zxid: 9}})
	if c, _ := b.take(); c.at.zxid != 9 {
		t.Error("a mark does not take the place of the one before it")
	}
	for range 5 {
		b.add(&change{Event: client.Event{Type: "changed", Data: data}})
	}
	b.close()
	b.push(change{Event: client.Event{Type: "deleted"}}) // push returns
}

// TestHeldBackIsLimited: --debounce merges the changes of a znode, and does not
// hold back more than the backlog does.
func TestHeldBackIsLimited(t *testing.T) {
	w := &watcher{wait: time.Hour, quiet: time.NewTimer(time.Hour), queue: newBacklog()}
	for i := range 3 {
		for _, path := range []string{"/a", "/b", "/a"} {
			_ = w.sort(change{Event: client.Event{Type: "changed", Path: path, Zxid: znode.Zxid(i)}})
		}
		_ = w.sort(change{Event: client.Event{Type: "children", Path: "/a"}})
	}
	if len(w.due) > 0 {
		t.Fatal("nothing was held back")
	}
	w.flushPending()
	var got []string
	for _, c := range w.due {
		got = append(got, fmt.Sprint(c.Path, uint64(c.Zxid), c.Type))
	}
	if len(got) != 3 || got[0] != "/b2changed" || got[1] != "/a2changed" || got[2] != "/a0children" || w.heldBytes != 0 {
		t.Error(got, w.heldBytes)
	}
	w.due = nil
	for i := 0; len(w.due) == 0; i++ {
		if i > backlogBytes/100 {
			t.Fatal("there is no limit")
		}
		_ = w.sort(change{Event: client.Event{Type: "changed", Path: fmt.Sprint("/", i)}})
	}
}

func TestWatchStateFile(t *testing.T) {
	r := runOf(t, "watch")
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	s, err := openWatchState(r, "/a", false)
	if err != nil || s.at != nil {
		t.Fatal(s, err)
	}
	if err := s.reached(position{7, 2}, true, atOnce); err != nil {
		t.Fatal(err)
	}
	if _, err := openWatchState(r, "/a", false); !is[*busyError](err) {
		t.Error("the lock went with the rename: ", err)
	}
	if other, err := openWatchState(r, "/a", true); err != nil || other.file == s.file {
		t.Error("another watch has the same file: ", err)
	}
	_ = s.reached(position{8, 0}, true, inAWhile)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s, err = openWatchState(r, "/a", false)
	if err != nil || *s.at != (position{8, 0}) || !s.missing {
		t.Fatal(s, err)
	}
	defer s.close()
	if info, err := os.Stat(s.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

// TestWatchGivesUp: without a server the watch ends after --timeout, not before.
func TestWatchGivesUp(t *testing.T) {
	f := &feed{r: runOf(t, "watch"), servers: []string{"unix:" + filepath.Join(t.TempDir(), "none")}, queue: newBacklog(), away: 100 * time.Millisecond}
	begun := time.Now()
	_, err := f.reconnect(t.Context(), errors.New("lost"))
	if took := time.Since(begun); exitCode(err) != exitNoAnswer || took < f.away {
		t.Error(took, err)
	}
	f.away = 0
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.reconnect(ctx, errors.New("lost")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("it gave up: ", err)
	}
}
