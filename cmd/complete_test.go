package cmd

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/server"
	"coord/server/text"
)

// complete is what completion answers after these words: what the shell does, then
// the offered words.
func complete(t *testing.T, words ...string) string {
	t.Helper()
	got := coord(t, "", append([]string{"__complete", "--"}, words...)...)
	if got.code != exitOK || got.errOut != "" {
		t.Errorf("completing %q: %+v", words, got)
	}
	var out []string
	for line := range strings.Lines(got.out) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		out = append(out, word)
	}
	return strings.Join(out, "|")
}

func TestComplete(t *testing.T) {
	addr := serve(t, nil)
	must(t, "create -p /app/hosts/a x", "create /app/url x", "create /apple x", "create /b=c:d x", "create /hidden/ x --seq -p --acl world:anyone:w")
	for _, tt := range []struct{ words, want string }{
		{"get|/", "words|/app|/apple|/b=c:d|/hidden|/zookeeper"},
		{"get|", "words|/app|/apple|/b=c:d|/hidden|/zookeeper"},
		{"get|/app", "words|/app|/apple"},
		{"get|/app/", "words|/app/hosts|/app/url"},
		{"get|/app/h", "open|/app/hosts"},
		{"get|-s|--lin|/app/u", "words|/app/url"},
		{"set|/app/u", "words|/app/url"},
		{"set|/app/url|/a", "words"},
		{"rm|-r|--|/app/u", "words|/app/url"},
		{"get|/none/", "words"},
		{"get|app", "words"},
		{"get|/app/url|", "words"},
		{"get|/b=", "words|/b=c:d"},
		{"acl|", "words|get|set|/app|/apple|/b=c:d|/hidden|/zookeeper"},
		{"acl|set|/appl", "words|/apple"},
		{"acl|/appl", "words|/apple"},
		{"--server|127.0.0.1:1|get|/app", "words"},
		{"get|/app|--server=127.0.0.1:1", "words"},
		{"--server|" + addr + "|get|/appl", "words|/apple"},
		{"export|/app|", "files"},
		{"snapshot|", "files|save|inspect|verify"},
		{"snapshot|ver", "files|verify"},
		{"snapshot|verify|", "files"},
		{"snapshot|verify|--level|", "words|header|checksum|decode|restore"},
		{"export|--format=", "words|--format=json|--format=yaml|--format=tar|--format=env"},
		{"txn|-f|", "files"},
		{"restore|x|--data-dir|", "files"},
		{"get|--timeout|", "words"},
		{"server|--log-l", "words|--log-level"},
		{"server|", "words"},
		{"du|-", "words|-n|--human|--server|--timeout|--auth-file|--explain|--json|--quiet|--help"},
		{"-", "words|--server|--timeout|--auth-file|--explain|--json|--quiet|--help|--version"},
		{"--json|ver", "words|version"},
		{"help|snapshot|s", "words|save"},
		{"help|", "words|" + strings.Join(firstWords(), "|")},
		{"", "words|" + strings.Join(firstWords(), "|")},
		{"frobnicate|x", "words"},
		{"completion|", "words|bash|zsh|fish"},
	} {
		if got := complete(t, strings.Split(tt.words, "|")...); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.words, got, tt.want)
		}
	}
	for line, want := range map[string]string{
		"coord get /b=":           "words\nc:d\t\n",
		"coord get /b=c":          "words\nc:d\t\n",
		`coord get "/b=`:          "words\n/b=c:d\t\n",
		`coord get /b\=c`:         "words\n/b=c:d\t\n",
		"A=1 B=2 coord get /appl": "words\n/apple\t\n",
		"coord ver":               "words\nversion\tprint the version of this program\n",
		"coord ver ":              "words\n",
		"":                        "",
		"coo":                     "",
	} {
		if got := coord(t, "", "__complete", "--breaks", "\"'@><=;|&(:", "--line", line); got.out != want || got.code != exitOK {
			t.Errorf("%q: %+v, want %q", line, got, want)
		}
	}
}

func firstWords() (words []string) {
	for _, c := range commands() {
		if w, _, _ := strings.Cut(c.name, " "); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

// TestCompleteIsQuick: completion does not wait for a server that does not answer,
// and does not read long lists to their end.
func TestCompleteIsQuick(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	long := completeWithin
	completeWithin = 300 * time.Millisecond
	t.Setenv("COORD_TIMEOUT", "24h") // how long any other command would wait
	start := time.Now()
	if got := complete(t, "get", "--server", l.Addr().String(), "/a"); got != "words" {
		t.Error(got)
	}
	if took := time.Since(start); took < completeWithin {
		t.Errorf("it took %v", took)
	}
	completeWithin = long
	t.Setenv("COORD_AUTH", "nonsense")
	if got := complete(t, "get", "/a"); got != "words" {
		t.Error(got)
	}
	t.Setenv("COORD_AUTH", "")
	asked := 0
	fake(t, func(r *text.Request) []byte {
		asked++
		if r.Verb != text.VerbLs || r.Path != "/jobs" || r.Limit != offered {
			t.Errorf("asked is %+v", r)
		}
		reply := text.Reply{Kind: text.KindList, Fields: []text.Field{text.Int("more", 1)}}
		for i := range offered {
			reply.Items = append(reply.Items, text.Reply{Kind: text.KindItem, Arg: fmt.Sprintf("job-%04d", i), Fields: text.AppendStat(nil, &text.Stat{})})
		}
		return reply.Append(nil, text.FormatText, false)
	})
	got := strings.Split(complete(t, "get", "/jobs/jo"), "|")
	if len(got) != offered+2 || got[offered+1] != "/jobs/jo…" || asked != 1 {
		t.Errorf("%d offered, the last is %s; asked %d times", len(got)-1, got[len(got)-1], asked)
	}
}

// TestBefore: names with a prefix are found in one page, whatever precedes them.
func TestBefore(t *testing.T) {
	serve(t, func(cfg *server.Config) { cfg.MaxFrame = 1 << 20 })
	var b strings.Builder
	for i := range 900 {
		fmt.Fprintf(&b, "/many/a%03d: \"\"\n", i)
	}
	b.WriteString("/many/b: x\n/many/é: x\n/many/éa: x\n")
	if got := coord(t, b.String(), "import", "--format", "yaml", "/"); got.code != exitOK {
		t.Fatal(got)
	}
	for typed, want := range map[string]string{"/many/b": "words|/many/b", "/many/é": "words|/many/é|/many/éa", "/many/a89": "words|/many/a890|/many/a891|/many/a892|/many/a893|/many/a894|/many/a895|/many/a896|/many/a897|/many/a898|/many/a899"} {
		if got := complete(t, "get", typed); got != want {
			t.Errorf("%s: %s", typed, got)
		}
	}
}

// TestOneTable: help, the manual page and completion have the same commands and
// flags.
func TestOneTable(t *testing.T) {
	page := coord(t, "", "man").out
	for line := range strings.SplitSeq(page, "\n") {
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !slices.Contains([]string{".TH", ".SH", ".SS", ".TP", ".B", ".PP", ".nf", ".fi"}, strings.Fields(line)[0]) {
			t.Errorf("man would take %q for a request", line)
		}
	}
	plain := strings.NewReplacer(`\&`, "", `\-`, "-", `\(aq`, "'", `\(ga`, "`", `\(ha`, "^", `\(ti`, "~", `\e`, `\`).Replace(page)
	sections := strings.Split(plain, "\n.SS ")[1:]
	if len(sections) != len(commands()) {
		t.Fatalf("%d commands in the manual, %d in the table", len(sections), len(commands()))
	}
	for i, c := range commands() {
		name := strings.TrimSpace("coord " + c.name + " " + c.args)
		if !strings.HasPrefix(sections[i], name+"\n") {
			t.Errorf("%s: the manual has %.40q", name, sections[i])
		}
		for _, part := range append([]string{c.details}, c.examples...) {
			if !strings.Contains(sections[i], part) {
				t.Errorf("%s: the manual lacks %q", name, part)
			}
		}
		offered := strings.Split(complete(t, append(strings.Fields(c.name), "-")...), "|")
		if c.name == "help" { // it has no flags, and its words are commands
			continue
		}
		help := coord(t, "", append(strings.Fields(c.name), "--help")...).out
		var want []string
		for _, f := range flagsAt(commands(), c) {
			if !visible(f) {
				continue
			}
			flag := dashed(f.Names()[0])
			if !slices.Contains(want, flag) {
				want = append(want, flag)
			}
		}
		slices.Sort(want)
		got := slices.Sorted(slices.Values(offered[1:]))
		if !slices.Equal(got, want) {
			t.Errorf("%s: completion offers %v, there are %v", name, got, want)
		}
		for _, line := range flagLines(c.allFlags()) {
			term, means, _ := strings.Cut(line, "\t")
			if !strings.Contains(help, means) || !strings.Contains(plain, "\n.B "+term+"\n"+means+"\n") {
				t.Errorf("%s: help or the manual lacks %q", name, line)
			}
		}
	}
	for _, e := range exitCodes {
		if !strings.Contains(plain, fmt.Sprintf("\n.B %d\n%s\n", e.code, e.means)) {
			t.Errorf("the manual lacks the exit code %d", e.code)
		}
	}
	if got := coord(t, "", "help"); strings.Contains(got.out, "__complete") || strings.Contains(page, "__complete") {
		t.Error("what only scripts call is shown to people")
	}
	for _, shell := range shells {
		if got := coord(t, "", "completion", shell); got.code != exitOK || !strings.Contains(got.out, "__complete") {
			t.Errorf("%+v", got)
		}
	}
	if got := coord(t, "", "completion", "csh"); got.code != exitUsage || !strings.Contains(got.errOut, "supported shells: bash, zsh, fish") {
		t.Errorf("%+v", got)
	}
}
