package testscripts

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example is an example in docs/text-protocol.md: a script and its output.
var example = regexp.MustCompile("(?s)```(sh|python|tcl)\n(.*?)```\n```text\n(.*?)```")

// TestProtocolDoc runs the examples of docs/text-protocol.md, in order, with the
// real server; package text runs them with a server on a map.
func TestProtocolDoc(t *testing.T) {
	t.Parallel()
	need(t, "bash", "nc", "python3", "expect", "telnet")
	doc, err := os.ReadFile("../docs/text-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, t.TempDir())
	_, port, _ := strings.Cut(p.addr, ":")
	dir := t.TempDir()
	program := map[string]string{"sh": "bash", "python": "python3", "tcl": "expect"}
	examples := example.FindAllStringSubmatch(string(doc), -1)
	for _, m := range examples {
		script := strings.NewReplacer("localhost 2181", "localhost "+port, "/localhost/2181", "/localhost/"+port,
			"('localhost', 2181)", "('localhost', "+port+")").Replace(m[2])
		ctx, cancel := context.WithTimeout(t.Context(), hung)
		c := exec.CommandContext(ctx, program[m[1]])
		c.Dir, c.Stdin = dir, strings.NewReader(script)
		c.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		c.WaitDelay = 30 * time.Second
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		err := c.Run()
		cancel()
		got, want := volatile.ReplaceAllString(out.String(), "0x…"), volatile.ReplaceAllString(m[3], "0x…")
		if err != nil || got != want {
			t.Fatalf("%s\n%v, prints\n%swant\n%s", script, err, got, want)
		}
	}
	if len(examples) < 15 {
		t.Fatalf("only %d examples found: the test tests nothing", len(examples))
	}
}
