package text_test

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

// TestDocExamples runs the examples of the documentation, one after another, against a server on a
// map, and compares what they print.
func TestDocExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/text-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string][]string{"sh": {"bash", "nc"}, "python": {"python3"}, "tcl": {"expect", "telnet"}}
	for _, needed := range programs["sh"] {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skip(err)
		}
	}
	port := startMapServer(t)
	dir := t.TempDir()
	examples := regexp.MustCompile("(?s)```(sh|python|tcl)\n(.*?)```\n```text\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(examples) < 8 {
		t.Fatalf("only %d examples found", len(examples))
	}
	for _, m := range examples {
		program := programs[string(m[1])]
		script, want := string(m[2]), m[3]
		missing := ""
		for _, needed := range program {
			if _, err := exec.LookPath(needed); err != nil {
				missing = needed
			}
		}
		if missing != "" {
			t.Logf("%s is not installed: its example is left out", missing)
			continue
		}
		script = strings.NewReplacer("localhost 2181", "127.0.0.1 "+port, "/localhost/2181", "/127.0.0.1/"+port,
			"('localhost', 2181)", "('127.0.0.1', "+port+")").Replace(script)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := exec.CommandContext(ctx, program[0])
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(script)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		got, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s\n%v\ngot:\n%s\nwant:\n%s", script, err, got, want)
		}
	}
}
