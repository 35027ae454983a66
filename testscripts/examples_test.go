package testscripts

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// examples are the scripts in examples/, each with lines that it must print in this
// order; other lines may be between them. Of a script with several lists, each is printed in
// order, and by processes that do not wait for one another.
var examples = map[string][][]string{
	"config-push": {{
		`host1 has http://old.example`, `host2 has http://old.example`, `host3 has http://old.example`,
		`push http://new.example`,
		`host1 has http://new.example`, `host2 has http://new.example`, `host3 has http://new.example`,
		`all hosts have the new value`,
	}},
	"membership": {{
		`created alice`, `created bob`, `created carol`, `members: alice bob carol`,
		`bob leaves`, `deleted bob`, `carol is killed`, `deleted carol`, `members: alice`, `deleted alice`,
	}},
	"leader-election": {{
		`the leader is A`, `B is a candidate`, `A is killed`, `the leader is B`, `the token has increased`,
	}},
	"lock-step-by-step": {{
		`c0 holds the lock`, `c0 releases the lock`, `c1 holds the lock`, `c1 releases the lock`,
		`c2 holds the lock`, `c2 releases the lock`, `all have had the lock, one at a time`,
	}},
	"sync-framework": {{
		`[ABC] is ready`, `[ABC] is syncing`,
	}, {
		`[ABC] takes value-of-[ABC] \(p-0000000000\)`, `no events after UNWATCH`, `all agree on the value with the lowest sequence number`,
	}},
	"barrier": {{
		`two workers are waiting`, `w[123] starts`, `w[123] starts`, `w[123] starts`, `all three have started`,
		`alone: exit code 8`,
	}},
}

// TestExamples runs each script of examples/ against a server of its own, once to
// its end and once interrupted: it must leave nothing behind either way.
func TestExamples(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	files, err := filepath.Glob("../examples/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(examples) {
		t.Fatalf("%d scripts in examples/, and the test knows %d", len(files), len(examples))
	}
	readme, err := os.ReadFile("../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".sh")
		want, ok := examples[name]
		if !ok {
			t.Fatalf("%s is not tested", file)
		}
		if !bytes.Contains(readme, []byte("]("+name+".sh)")) {
			t.Errorf("examples/README.md does not name %s.sh", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, t.TempDir())

			stdout, stderr, code := runExample(t, p, file, false)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
			}
			for _, lines := range want {
				rest := stdout
				for _, line := range lines {
					at := regexp.MustCompile(`(?m)^` + line + `$`).FindStringIndex(rest)
					if at == nil {
						t.Fatalf("no line %q where it should be in\n%s", line, stdout)
					}
					rest = rest[at[1]:]
				}
			}

			for try := 1; ; try++ {
				stdout, stderr, code := runExample(t, p, file, true)
				if code == 0 && try < 10 {
					t.Log("it was over before the signal came")
					continue
				}
				if code != 128+int(syscall.SIGTERM) {
					t.Fatalf("ended by SIGTERM: exit code %d\n%s%s", code, stdout, stderr)
				}
				break
			}
		})
	}
}

// runExample runs a script and checks that it leaves no session, znode, process or
// file behind. With interrupt the script gets SIGTERM after its first line.
func runExample(t *testing.T, p *process, file string, interrupt bool) (string, string, int) {
	t.Helper()
	tmp := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, file)
	c.Env = append(os.Environ(), "COORD_SERVER="+p.addr, "TMPDIR="+tmp)
	c.WaitDelay = time.Minute
	var stdout strings.Builder
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// Ends when no process has the script's stdout open any more.
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if interrupt && stdout.Len() == 0 {
			_ = c.Process.Signal(syscall.SIGTERM)
		}
		stdout.WriteString(lines.Text() + "\n")
	}
	_ = c.Wait()

	// The end of a killed process, and of a connection, takes a moment to show.
	var left string
	for deadline := time.Now().Add(hung); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if left = leftovers(t, p, tmp); left == "" {
			break
		}
	}
	if left != "" {
		t.Errorf("%s leaves %s", file, left)
	}
	return stdout.String(), stderr.String(), c.ProcessState.ExitCode()
}

func leftovers(t *testing.T, p *process, tmp string) string {
	t.Helper()
	if out, stderr, code := run(t, "session", "ls", "--server", p.addr); code != 0 || out != "" {
		return "sessions: " + out + stderr
	}
	if out, stderr, code := run(t, "ls", "/", "--server", p.addr); code != 0 || out != "zookeeper\n" {
		return "znodes: " + out + stderr
	}
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		return "files in " + tmp
	}
	// Every process that the script has started has its TMPDIR; the server does not.
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range environs {
		if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte("TMPDIR="+tmp+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			return "a process: " + string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		}
	}
	return ""
}
