package cmd

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"coord/server"
	"coord/tree/znode"
)

// TestDocumentedCommands: docs/commands.md has every command with its flags and
// examples, and nothing else.
func TestDocumentedCommands(t *testing.T) {
	doc := document(t, "commands.md")
	sections := map[string]string{}
	for part := range strings.SplitSeq(doc, "\n## ") {
		if title, body, _ := strings.Cut(part, "\n"); strings.HasPrefix(title, "coord ") {
			sections[strings.TrimPrefix(title, "coord ")] = body
		}
	}
	for _, c := range commands() {
		body, ok := sections[c.name]
		if !ok {
			t.Errorf("coord %s is not documented", c.name)
		}
		delete(sections, c.name)
		for _, e := range c.examples {
			if !strings.Contains(body, "\n"+e+"\n") {
				t.Errorf("coord %s: the example %q is not documented", c.name, e)
			}
		}
		for _, f := range c.flags {
			if !visible(f) {
				continue
			}
			for _, n := range f.Names() {
				if !strings.Contains(body, "`"+dashed(n)) {
					t.Errorf("coord %s: the flag %s is not documented", c.name, n)
				}
			}
		}
		for _, w := range regexp.MustCompile("`(--?[a-z0-9][a-z0-9-]*)").FindAllStringSubmatch(body, -1) {
			if n := strings.TrimLeft(w[1], "-"); findFlag(flagsAt(commands(), c), n) == nil && together(c.allFlags(), n) == nil && findFlag(append(allFlags(commands()), connectFlags()...), n) == nil {
				t.Errorf("coord %s: %s is documented and does not exist", c.name, w[1])
			}
		}
	}
	for name := range sections {
		t.Errorf("coord %s is documented and does not exist", name)
	}
	for _, f := range (&command{connects: true}).commonFlags() {
		for _, n := range f.Names() {
			if !strings.Contains(doc, "`"+dashed(n)) {
				t.Errorf("the common flag %s is not documented", n)
			}
		}
		for _, env := range f.(cli.DocGenerationFlag).GetEnvVars() {
			if !strings.Contains(doc, "`"+env+"`") {
				t.Errorf("%s is not documented", env)
			}
		}
	}
}

// rows are the rows of the table after a heading.
func rows(doc, heading string) (all [][]string) {
	_, rest, _ := strings.Cut(doc, heading)
	for line := range strings.SplitSeq(strings.TrimLeft(rest, "\n"), "\n") {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		all = append(all, cells)
	}
	if len(all) < 3 {
		return nil
	}
	return all[2:]
}

func TestDocumentedExitCodes(t *testing.T) {
	doc := document(t, "commands.md")
	var documented, want []string
	for _, r := range rows(doc, "## Exit codes") {
		documented = append(documented, r[0]+" "+strings.NewReplacer("**", "", "`", "").Replace(r[1]))
	}
	for _, e := range exitCodes {
		want = append(want, fmt.Sprintf("%d %s", e.code, e.means))
	}
	if !slices.Equal(documented, want) {
		t.Errorf("documented are\n%s\nthe program has\n%s", strings.Join(documented, "\n"), strings.Join(want, "\n"))
	}
	for _, code := range []int{
		exitOK, exitFalse, exitUsage, exitNotFound, exitExists, exitConflict, exitPermission, exitNoAnswer, exitTimeout, exitExpired,
		exitUncertain, exitLimit, exitDamaged, exitUnsafe, exitVersion, exitForeign, exitForgotten, exitInUse, exitPart, exitOther, exitFatalIO,
		exitLost, exitNotInTime, exitNotBegun, exitNotStarted, exitNoCommand, exitPipe,
	} {
		if !slices.ContainsFunc(exitCodes, func(e struct {
			code  int
			means string
		}) bool {
			return e.code == code
		}) {
			t.Errorf("the exit code %d is not in the table for people", code)
		}
	}
	byWord := map[string]int{}
	for _, c := range znode.Codes() {
		if c == znode.OK {
			continue
		}
		if before, ok := byWord[c.Word()]; ok && before != exitOfCode(c) {
			t.Errorf("%s gives %d and %d", c.Word(), before, exitOfCode(c))
		}
		byWord[c.Word()] = exitOfCode(c)
		if got := exitCode(fmt.Errorf("wrapped: %w", c)); got != exitOfCode(c) {
			t.Errorf("%v wrapped gives %d, not %d", c, got, exitOfCode(c))
		}
	}
	for _, r := range rows(doc, "as codes of the text protocol:") {
		if code, ok := byWord[r[0]]; !ok || fmt.Sprint(code) != r[1] {
			t.Errorf("%s is documented with %s, and gives %d", r[0], r[1], code)
		}
		delete(byWord, r[0])
	}
	for word, code := range byWord {
		t.Errorf("%s gives %d, and is not documented", word, code)
	}
}

func TestDocumentedConfiguration(t *testing.T) {
	doc := document(t, "configuration.md")
	documented := map[string][]string{}
	for _, r := range rows(doc, "## Settings") {
		name, _, _ := strings.Cut(strings.Trim(r[0], "`"), "`")
		documented[strings.TrimPrefix(name, "--")] = r
	}
	plain := strings.NewReplacer("`", "", ", on a terminal ", "; on a terminal ")
	for _, s := range settings {
		r := documented[s.name]
		if r == nil || r[1] != "`"+s.env()+"`" || plain.Replace(r[2]) != s.shown {
			t.Errorf("%s (%s, default %s) is documented as %v", s.name, s.env(), s.shown, r)
		}
		delete(documented, s.name)
	}
	delete(documented, "config")
	if len(documented) > 0 {
		t.Errorf("documented and not there: %v", documented)
	}
	keys := rows(doc, "### Keys of ZooKeeper with a meaning here")
	for i, k := range zooKeys {
		if i >= len(keys) || keys[i][0] != "`"+k.name+"`" || keys[i][1] != k.means {
			t.Errorf("%s (%s) is not documented, or in another order", k.name, k.means)
		}
	}
	if len(keys) != len(zooKeys) {
		t.Errorf("%d keys of ZooKeeper's are documented, %d are there", len(keys), len(zooKeys))
	}
	_, rest, _ := strings.Cut(doc, "A `*` stands for any rest.")
	var ignored []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(rest, -1) {
		ignored = append(ignored, m[1])
	}
	if !slices.Equal(ignored, zooIgnored) {
		t.Errorf("ignored keys: documented are\n%v\nthe program has\n%v", ignored, zooIgnored)
	}
}

// TestShownDefaults: the defaults that help shows are those of the server.
func TestShownDefaults(t *testing.T) {
	want := defaultOptions()
	inWords := []string{"name", "super-digest", "log-level", "join", "expect", "initial", "secret-file", "advertise", "peer-tls-cert", "peer-tls-key", "peer-tls-ca"}
	all := want
	all.Listen, all.FourLetter = nil, nil
	for _, s := range settings {
		if slices.Contains(inWords, s.name) {
			continue
		}
		got := want
		got.Listen, got.FourLetter = nil, nil
		got.DataDir, got.Cluster, got.logFormat = "", "", ""
		got.MaxClientConns, got.MaxFrame, got.SnapshotTxns, got.SnapshotBytes, got.SnapshotKeep = -1, -1, -1, math.MaxInt64, -1
		got.ensemble = server.Ensemble{Observer: true}
		before := fmt.Sprintf("%+v", got)
		if err := s.apply(&got, []string{s.shown}); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		got.given = nil
		if fmt.Sprintf("%+v", got) == before {
			t.Errorf("%s: the default %s sets nothing", s.name, s.shown)
		}
		_ = s.apply(&all, []string{s.shown})
	}
	all.given = nil
	if fmt.Sprintf("%+v", all) != fmt.Sprintf("%+v", want) {
		t.Errorf("the defaults of help make\n%+v\nthe server's are\n%+v", all, want)
	}
}
