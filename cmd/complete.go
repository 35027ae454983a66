package cmd

import (
	"context"
	_ "embed"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// The scripts do only what needs the shell itself: they pass the words up to the
// cursor to completeCommand and insert its answer.
var (
	//go:embed completion/coord.bash
	bashScript string
	//go:embed completion/coord.zsh
	zshScript string
	//go:embed completion/coord.fish
	fishScript string
)

var completionScripts = map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}

var shells = []string{"bash", "zsh", "fish"}

func completionCommand() *command {
	return &command{
		name: "completion", args: "SHELL", does: "print a script that makes a shell complete coord's words", min: 1, max: 1,
		details: `SHELL is bash, zsh or fish. The shell then completes commands, flags, the values of some flags, files, and the paths of the
tree, which come from the server that the line names (--server, COORD_SERVER). If it does not answer in 300 ms, no path is
offered. bash: in ~/.bashrc, or in a file in /etc/bash_completion.d; zsh: in ~/.zshrc after compinit; fish: in a file in
~/.config/fish/completions.`,
		examples: []string{"source <(coord completion bash)", "coord completion fish > ~/.config/fish/completions/coord.fish"},
		choices:  map[string][]string{"SHELL": shells},
		run: func(_ context.Context, r *run) error {
			script, ok := completionScripts[r.args[0]]
			switch {
			case !ok:
				return &usageError{msg: "no completion for the shell " + quote(r.args[0]), hint: "supported shells: " + strings.Join(shells, ", ")}
			case r.json:
				r.object(struct {
					V      int    `json:"v"`
					Shell  string `json:"shell"`
					Script string `json:"script"`
				}{schema, r.args[0], script})
			default:
				r.printf("%s", script)
			}
			return nil
		},
	}
}

// completeCommand is the command that the scripts call. The first line of its
// answer tells the shell what to do: "words" offers the lines that follow, each a
// word, a tab and the meaning of the word; "open" does the same and adds no space;
// "files" offers files if no lines follow. It reports no errors: the user is
// typing.
func completeCommand() *command {
	return &command{
		name: "__complete", max: -1, connects: true,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "line", Usage: "the line up to the cursor, as bash has it"},
			&cli.StringFlag{Name: "breaks", Usage: "where bash begins a new word"},
		},
		run: runComplete,
	}
}

// completeWithin is how long completion may wait for the server. Tests have more time.
var completeWithin = 300 * time.Millisecond

// offered is the most paths that are offered at once.
const offered = 500

func runComplete(ctx context.Context, r *run) error {
	words, broken := r.args, ""
	if r.flags.IsSet("line") {
		words, broken = splitLine(r.flags.String("line"), r.flags.String("breaks"))
	}
	if len(words) == 0 {
		return nil
	}
	c := completion{run: r, typed: words[len(words)-1]}
	c.complete(ctx, words[:len(words)-1])
	kind := "words"
	switch {
	case c.files:
		kind = "files"
	case c.open && len(c.words) == 1:
		kind = "open"
	}
	r.printf("%s\n", kind)
	for _, w := range c.words {
		r.printf("%s\t%s\n", strings.TrimPrefix(w.word, broken), w.means)
	}
	return nil
}

// splitLine splits a shell's line, up to the cursor, and leaves out the name of the
// program. broken is the part of the last word up to and including the last of the
// breaks in it: bash replaces only what follows.
func splitLine(line, breaks string) (words []string, broken string) {
	var word []byte
	var quote byte
	begun := false // a word has begun, if only with a quote
	end := func() {
		if begun && (len(words) > 0 || !strings.Contains(string(word), "=")) { // skips VARIABLE=value before the command
			words = append(words, string(word))
		}
		word, begun, broken = nil, false, ""
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote == 0 && (c == ' ' || c == '\t'):
			end()
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word = append(word, line[i])
		default:
			word = append(word, c)
			if quote == 0 && strings.IndexByte(breaks, c) >= 0 {
				broken = string(word)
			}
		}
		begun = true
	}
	last, lastBroken := string(word), broken
	begun = false
	end()
	if len(words) == 0 {
		return nil, ""
	}
	return append(words[1:], last), lastBroken
}

// completion finds how a word may be completed.
type completion struct {
	*run
	typed string // the typed part of the word
	words []completed
	files bool // offer files too
	open  bool // the word continues after the offered part
}

type completed struct{ word, means string }

func (c *completion) offer(word, means string) {
	if strings.HasPrefix(word, c.typed) && !slices.ContainsFunc(c.words, func(have completed) bool { return have.word == word }) {
		c.words = append(c.words, completed{word, means})
	}
}

// complete examines the words before the one being typed.
func (c *completion) complete(ctx context.Context, before []string) {
	all := commands()
	if i := slices.IndexFunc(before, func(w string) bool { return w == "" || w[0] != '-' }); i >= 0 && before[i] == "help" {
		c.commandsBehind(all, strings.Join(before[i+1:], " "))
		return
	}
	l, err := parseLine(all, before) // as far as it could be parsed
	literal := slices.Contains(before, "--")
	known := flagsAt(all, l.command)
	if len(before) > 0 && !literal {
		if last := before[len(before)-1]; len(last) > 1 && last[0] == '-' && !strings.Contains(last, "=") {
			if f := findFlag(known, strings.TrimLeft(last, "-")); f != nil && takesValue(f) {
				c.flagValue(l.command, f)
				return
			}
		}
	}
	if !literal && strings.HasPrefix(c.typed, "-") {
		c.flag(l.command, known)
		return
	}
	if l.command == nil {
		if err == nil {
			c.commandsBehind(all, "")
		}
		return
	}
	if len(l.args) == 0 {
		c.commandsBehind(all, l.command.name)
	}
	c.argument(ctx, l)
}

// commandsBehind offers the next word of the commands whose names begin with name.
func (c *completion) commandsBehind(all []*command, name string) {
	for _, cmd := range all {
		rest := cmd.name
		if name != "" {
			var below bool
			if rest, below = strings.CutPrefix(cmd.name, name+" "); !below {
				continue
			}
		}
		word, _, _ := strings.Cut(rest, " ")
		c.offer(word, cmd.does)
	}
}

func takesValue(f cli.Flag) bool {
	doc, ok := f.(cli.DocGenerationFlag)
	return ok && doc.TakesValue()
}

// flag offers the flags, or the values of --flag=.
func (c *completion) flag(cmd *command, known []cli.Flag) {
	if name, typed, ok := strings.Cut(c.typed, "="); ok {
		if f := findFlag(known, strings.TrimLeft(name, "-")); f != nil && takesValue(f) {
			value := completion{run: c.run, typed: typed}
			value.flagValue(cmd, f)
			for _, w := range value.words {
				c.offer(name+"="+w.word, w.means)
			}
		}
		return
	}
	for _, f := range known {
		if doc, ok := f.(cli.DocGenerationFlag); ok && visible(f) {
			c.offer(dashed(f.Names()[0]), strings.ReplaceAll(doc.GetUsage(), "`", ""))
		}
	}
}

// dashed is a flag as it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// flagValue offers the values of a flag: those of the table, and files if the
// flag's usage names one.
func (c *completion) flagValue(cmd *command, f cli.Flag) {
	if cmd != nil {
		for _, v := range cmd.choices[f.Names()[0]] {
			c.offer(v, "")
		}
	}
	_, placeholder, _ := strings.Cut(f.(cli.DocGenerationFlag).GetUsage(), "`")
	placeholder, _, _ = strings.Cut(placeholder, "`")
	c.files = slices.Contains([]string{"FILE", "DIR", "FOLDER"}, placeholder)
}

// argument offers values for the command's next argument.
func (c *completion) argument(ctx context.Context, l *line) {
	kinds := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(l.command.args))
	i := len(l.args)
	if i >= len(kinds) || l.command.max >= 0 && i >= l.command.max {
		return
	}
	switch kind := kinds[i]; {
	case kind == "PATH":
		c.path(ctx, l)
	case kind == "NODE" || kind == "OLD" || kind == "NEW":
		c.node(ctx, l)
	case strings.HasPrefix(kind, "FILE"):
		c.files = true
	default:
		for _, v := range l.command.choices[kind] {
			c.offer(v, "")
		}
	}
}

// path offers the children of the typed path's parent, if the server that the line
// names answers in time.
func (c *completion) path(ctx context.Context, l *line) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	parent, prefix := znode.Root, ""
	if i := strings.LastIndexByte(c.typed, '/'); i >= 0 {
		parent, prefix = c.typed[:max(i, 1)], c.typed[i+1:]
	}
	if c.typed != "" && c.typed[0] != '/' || znode.CheckPath(parent) != nil {
		return
	}
	conn, err := c.dialAsLine(ctx, l)
	if err != nil {
		return
	}
	defer conn.Close()
	reply, err := conn.Do(ctx, &text.Request{
		Op: text.Op{Verb: text.VerbLs, Path: parent, Limit: offered}, Stat: true, After: before(prefix),
	})
	if err != nil {
		return
	}
	for i := range reply.Items {
		it := client.Item{Path: znode.Join(parent, reply.Items[i].Arg), Stat: reply.Items[i].Stat()}
		if !strings.HasPrefix(it.Path, c.typed) {
			return
		}
		c.offer(it.Path, "")
		c.open = it.Stat.NumChildren > 0
	}
	if reply.Int(text.KeyMore) != 0 { // otherwise the shell would insert the common prefix of the offered ones only
		c.offer(c.typed+"…", "there are more")
	}
}

// node offers the names and the ids of the ensemble's nodes, if the server tells them.
func (c *completion) node(ctx context.Context, l *line) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	conn, err := c.dialAsLine(ctx, l)
	if err != nil {
		return
	}
	defer conn.Close()
	members, _ := conn.Members(ctx)
	for _, m := range members {
		c.offer(m.Name, m.Role+" "+m.ID)
	}
	for _, m := range members {
		c.offer(m.ID, m.Role+" "+m.Name)
	}
}

// dialAsLine connects to the server that the line names.
func (c *completion) dialAsLine(ctx context.Context, l *line) (*client.Conn, error) {
	for _, name := range []string{"server", "auth-file"} {
		for _, f := range l.flags {
			if v, ok := strings.CutPrefix(f, "--"+name+"="); ok {
				_ = c.flags.Set(name, v)
			}
		}
	}
	return c.dial(ctx)
}

// before returns a string that sorts before all names with this prefix and after
// all other names that sort before them: no name contains the byte 0xff.
func before(prefix string) string {
	if prefix == "" {
		return ""
	}
	last := len(prefix) - 1
	return prefix[:last] + string([]byte{prefix[last] - 1, 0xff})
}
