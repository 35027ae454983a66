package cmd

import (
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// line is a parsed command line.
type line struct {
	command *command // nil: none was named
	flags   []string // as --name=value
	args    []string // neither flags nor the command
	literal int      // index of the first argument that stood after "--"
	help    bool     // -h, --help, or the command "help"
}

func (l *line) has(flag string) bool { return slices.Contains(l.flags, "--"+flag) }

// parseLine finds the command and its flags. The flag package stops at the first
// argument; here flags may stand anywhere before "--", and flags that several
// commands share may also stand before the command. A flag's value may be the next
// word, whatever that begins with; single letters without values may be combined
// (-lR). With an error, the line is returned as far as it was parsed.
func parseLine(all []*command, words []string) (l *line, err error) {
	l = &line{literal: -1}
	var given []givenFlag
	helped := false // "help" is followed by a command
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--":
			l.literal = len(l.args)
			l.args = append(l.args, words[i+1:]...)
			i = len(words)
		case len(w) > 1 && w[0] == '-':
			var g []givenFlag
			if g, i, err = readFlag(all, l.command, words, i); err != nil {
				return l, err
			}
			for _, f := range g {
				if f.name == "help" {
					l.help = true
					continue
				}
				given = append(given, f)
				l.flags = append(l.flags, f.String())
			}
		case l.command == nil:
			if l.command = find(all, w); l.command == nil {
				return l, unknownCommand(all, w)
			}
		case len(l.args) == 0 && find(all, l.command.name+" "+w) != nil:
			l.command = find(all, l.command.name+" "+w)
		case l.command.name == "help":
			sub := w
			if helped {
				sub = l.args[0] + " " + w
			}
			if find(all, sub) == nil {
				return l, unknownCommand(all, sub)
			}
			helped, l.args = true, []string{sub}
		default:
			l.args = append(l.args, w)
		}
	}
	if l.literal < 0 {
		l.literal = len(l.args)
	}
	switch {
	case l.command == nil && len(l.args) > 0:
		return l, &usageError{msg: "a command is missing before --", hint: "coord help"}
	case l.command == nil && slices.ContainsFunc(given, func(f givenFlag) bool { return f.name == "version" }):
		l.command = find(all, "version")
		l.flags = slices.DeleteFunc(l.flags, func(f string) bool { return f == "--version" })
		return l, nil
	case l.command == nil:
		l.help = true
		return l, nil
	case l.command.name == "help":
		l.help, l.command = true, nil
		if helped {
			l.command = find(all, l.args[0])
		}
		return l, nil
	}
	for _, f := range given {
		if !slices.ContainsFunc(l.command.allFlags(), func(have cli.Flag) bool { return slices.Contains(have.Names(), f.name) }) {
			return l, unknownFlag(l.command.allFlags(), f.as, l.command.name)
		}
	}
	return l, nil
}

func find(all []*command, name string) *command {
	for _, c := range all {
		if c.name == name {
			return c
		}
	}
	return nil
}

// givenFlag is a flag on the command line.
type givenFlag struct {
	name  string // as in the table
	value string // with its "=", or empty
	as    string // as it was written
}

func (f givenFlag) String() string { return "--" + f.name + f.value }

// readFlag reads the flag at words[i], and its value if that is the next word. last
// is the index of the last word that belongs to the flag.
func readFlag(all []*command, cmd *command, words []string, i int) (fs []givenFlag, last int, err error) {
	as, value, hasValue := strings.Cut(words[i], "=")
	name := strings.TrimPrefix(strings.TrimPrefix(as, "-"), "-")
	known := flagsAt(all, cmd)
	f := findFlag(known, name)
	if f == nil && !strings.HasPrefix(as, "--") && !hasValue {
		if fs := together(known, name); fs != nil {
			return fs, i, nil
		}
	}
	if f == nil {
		if cmd == nil {
			if f := findFlag(allFlags(all), name); f != nil {
				return nil, i, &usageError{msg: "the flag " + as + " must stand after the command", hint: "coord help"}
			}
			return nil, i, unknownFlag(known, as, "")
		}
		return nil, i, unknownFlag(known, as, cmd.name)
	}
	g := givenFlag{name: f.Names()[0], as: as}
	if doc, ok := f.(cli.DocGenerationFlag); ok && doc.TakesValue() {
		if !hasValue {
			if i+1 == len(words) {
				return nil, i, &usageError{msg: "the flag " + as + " needs a value", hint: usageHint(cmd)}
			}
			i++
			value = words[i]
		}
		g.value = "=" + value
	} else if hasValue {
		switch value {
		case "true":
		case "false":
			return nil, i, nil
		default:
			return nil, i, &usageError{msg: "the flag " + as + " takes no value", hint: usageHint(cmd)}
		}
	}
	return []givenFlag{g}, i, nil
}

// together reads several one-letter flags without values, such as -lR; otherwise nil.
func together(known []cli.Flag, letters string) (fs []givenFlag) {
	for _, r := range letters {
		f := findFlag(known, string(r))
		if f == nil {
			return nil
		}
		if doc, ok := f.(cli.DocGenerationFlag); !ok || doc.TakesValue() {
			return nil
		}
		fs = append(fs, givenFlag{name: f.Names()[0], as: "-" + string(r)})
	}
	return fs
}

// flagsAt are the flags that may stand after cmd. If cmd is nil, they are the flags
// that may stand before the command: only those that several commands share.
func flagsAt(all []*command, cmd *command) []cli.Flag {
	help := boolFlag("help", "explain the command", "h")
	if cmd == nil {
		shared := &command{connects: true}
		return append(shared.allFlags(), help, boolFlag("version", ""))
	}
	flags := append(cmd.allFlags(), help)
	for _, c := range all { // the subcommand may follow the flag
		if strings.HasPrefix(c.name, cmd.name+" ") {
			flags = append(flags, c.allFlags()...)
		}
	}
	return flags
}

func allFlags(all []*command) (flags []cli.Flag) {
	for _, c := range all {
		flags = append(flags, c.flags...)
	}
	return flags
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func usageHint(cmd *command) string {
	if cmd == nil {
		return "coord help"
	}
	return "coord help " + cmd.name
}

func unknownCommand(all []*command, name string) error {
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	e := &usageError{msg: "there is no command " + quote(name), hint: "coord help"}
	if s := nearest(names, name); s != "" {
		e.hint = "did you mean " + s + "?"
	}
	return e
}

// meant adds a hint to a usage error if the first argument is perhaps a mistyped
// subcommand: coord lock aquire /a.
func meant(err error, cmd *command, args []string) error {
	e, ok := errors.AsType[*usageError](err)
	if !ok || len(args) == 0 || args[0] == "" || strings.HasPrefix(args[0], "/") {
		return err
	}
	var names []string
	for _, c := range commands() {
		if below, ok := strings.CutPrefix(c.name, cmd.name+" "); ok {
			names = append(names, below)
		}
	}
	if s := nearest(names, args[0]); s != "" {
		return &usageError{msg: e.msg, hint: "did you mean coord " + cmd.name + " " + s + "?"}
	}
	return err
}

func unknownFlag(known []cli.Flag, as, cmd string) error {
	var names []string
	for _, f := range known {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, n)
			}
		}
	}
	e := &usageError{msg: "there is no flag " + as, hint: "coord help"}
	if cmd != "" {
		e.msg = "coord " + cmd + " has no flag " + as
		e.hint = "coord help " + cmd
	}
	switch s := nearest(names, strings.TrimLeft(as, "-")); {
	case s != "":
		e.hint = "did you mean --" + s + "?"
	case cmd != "":
		e.hint += "; put an argument that begins with - after --"
	}
	return e
}

// nearest finds the name that is closest to a mistyped one; empty if none is close.
func nearest(names []string, typed string) string {
	best, found := 1+len(typed)/3, ""
	for _, n := range names {
		if d := distance(n, typed); d <= best {
			best, found = d-1, n
		}
		if len(typed) > 2 && strings.HasPrefix(n, typed) {
			return n
		}
	}
	return found
}

// distance counts the insertions, deletions, substitutions and swaps of neighbours
// that turn a into b.
func distance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j+1]+1, row[j]+1, prev[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
