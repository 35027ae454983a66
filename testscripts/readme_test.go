package testscripts

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// session is a ```console block: commands after "$ ", each with its output.
var (
	session  = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")
	volatile = regexp.MustCompile(`0x[0-9a-f]+`)
)

// TestReadme runs every command that the README shows, in order, and compares the
// output with the README.
func TestReadme(t *testing.T) {
	t.Parallel()
	need(t, "bash", "nc", "jq")
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	p := launch(t, filepath.Join(work, "coord-data"))
	_, port, _ := strings.Cut(p.addr, ":")
	commands := 0
	for _, block := range session.FindAllStringSubmatch(string(text), -1) {
		for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			command, want, _ := strings.Cut(strings.TrimSuffix(part, "\n"), "\n")
			if want != "" {
				want += "\n"
			}
			c := exec.Command("bash", "-c", strings.NewReplacer(
				"localhost 2181", "localhost "+port, "localhost/2181", "localhost/"+port).Replace(command))
			c.Dir = work
			c.Env = append(os.Environ(), "COORD_SERVER="+p.addr)
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := c.Run(); err != nil {
				t.Fatalf("$ %s\n%v\n%s", command, err, out.String())
			}
			got := volatile.ReplaceAllString(out.String(), "0x…")
			if got != volatile.ReplaceAllString(want, "0x…") {
				t.Errorf("$ %s\nprints\n%swant\n%s", command, got, want)
			}
			commands++
		}
	}
	if commands < 10 {
		t.Fatalf("only %d commands found: the test tests nothing", commands)
	}
}
