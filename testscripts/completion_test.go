package testscripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// typed are lines that a user types before TAB, and the words that the program then
// gets. A + is typed after TAB: it is a word of its own if the shell has added a
// space.
var typed = []struct{ line, want string }{
	{"coord stat", "<status><+>"},
	{"coord snapshot ver", "<snapshot><verify><+>"},
	{"coord ls --lo", "<ls><--long><+>"},
	{"coord export --format ya", "<export><--format><yaml><+>"},
	{"coord get /app/u", "<get></app/url><+>"},
	{"coord get -s /app/u", "<get><-s></app/url><+>"},
	{"coord get /app/ho", "<get></app/hosts+>"},
	{"coord get /app/hosts/", "<get></app/hosts/a><+>"},
	{"coord get /app/wi", "<get></app/with space><+>"},
	{`coord get "/app/wi`, "<get></app/with space><+>"},
	{"coord get /key", "<get></key:v=x><+>"},
	{"coord get /key:", "<get></key:v=x><+>"},
	{"coord get /key:v=", "<get></key:v=x><+>"},
	{"coord get /none", "<get></none+>"},
	{"coord get --server 127.0.0.1:1 /app/u", "<get><--server><127.0.0.1:1></app/u+>"},
	{"coord txn -f only", "<txn><-f><only.ops><+>"},
	{"coord help snap", "<help><snapshot><+>"},
	{"X=1 coord get /app/u", "<get></app/url><+>"},
	{"true; coord get /app/u", "<get></app/url><+>"},
}

// program takes the place of coord: it completes, and records all other calls.
const program = `#!/bin/sh
[ "$1" = __complete ] && exec "$REAL" "$@"
printf '<%s>' "$@" >> "$CALLS"
echo >> "$CALLS"
`

const typist = `set timeout 60
log_user 0
set stty_init "columns 200"
spawn {*}$argv
expect_before timeout { puts "it says nothing more: $expect_out(buffer)"; exit 1 }
send -- "$env(SETUP); echo re''ady\r"
expect "ready"
foreach line [split $env(LINES_TYPED) \n] {
	set calls [file size $env(CALLS)]
	send -- "$line\t+\r"
	for {set i 0} {$i < 1200 && [file size $env(CALLS)] == $calls} {incr i} { after 50 }
}
`

// TestCompletion types in real shells.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []struct {
		name  string
		args  []string
		setup string
		other map[string]string // expectations that differ in this shell
	}{
		{"bash", []string{"--noprofile", "--norc", "-i"}, "source <(coord completion bash)", nil},
		{"zsh", []string{"-f", "-i"}, "autoload -U compinit; compinit -u -D; source <(coord completion zsh)", nil},
		{"fish", []string{"--no-config", "-i"}, "coord completion fish | source", map[string]string{
			"coord get /app/ho": "<get></app/hosts/+>", // it adds a space after everything but a slash
		}},
	} {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			need(t, "expect", shell.name)
			dir := t.TempDir()
			p := launch(t, filepath.Join(dir, "data"))
			p.ask("CREATE /app/hosts/a parents x", `CREATE "/app/with space" x`, "CREATE /app/url x", "CREATE /key:v=x x")
			real, err := exec.LookPath("coord")
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"bin/coord": program, "type.exp": typist, "only.ops": "RM /a\n"} {
				file := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			setup := strings.ReplaceAll(shell.setup, "coord completion", "$REAL completion")
			// typeIn runs the shell and types the lines; it returns what they run.
			typeIn := func(lines []string) []string {
				t.Helper()
				calls := filepath.Join(dir, "calls")
				if err := os.WriteFile(calls, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				c := exec.Command("expect", append([]string{filepath.Join(dir, "type.exp"), shell.name}, shell.args...)...)
				c.Dir = dir
				c.Env = append(os.Environ(), "REAL="+real, "CALLS="+calls, "SETUP="+setup, "LINES_TYPED="+strings.Join(lines, "\n"),
					"PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "HOME="+dir, "COORD_SERVER="+p.addr, "TERM=dumb", "INPUTRC=/dev/null", "PS1=> ", "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
				if out, err := c.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				b, err := os.ReadFile(calls)
				if err != nil {
					t.Fatal(err)
				}
				return strings.Split(strings.TrimSpace(string(b)), "\n")
			}
			want, left := map[string]string{}, []string{}
			for _, l := range typed {
				want[l.line] = l.want
				if other, ok := shell.other[l.line]; ok {
					want[l.line] = other
				}
				left = append(left, l.line)
			}
			// A completion that has to wait for the server gives up after a moment, so as not to hold the user up: a line may
			// need several tries on a busy machine.
			for try := 1; len(left) > 0; try++ {
				all := typeIn(left)
				if len(all) != len(left) {
					if try == 10 {
						t.Fatalf("%d lines were typed, %d ran:\n%s", len(left), len(all), strings.Join(all, "\n"))
					}
					continue
				}
				var again []string
				for i, got := range all {
					switch line := left[i]; {
					case got == want[line]:
					case try < 10:
						t.Logf("%s[TAB]+ runs coord %s, want %s: again", line, got, want[line])
						again = append(again, line)
					default:
						t.Errorf("%s[TAB]+ runs coord %s, want %s", line, got, want[line])
					}
				}
				left = again
			}
		})
	}
}
