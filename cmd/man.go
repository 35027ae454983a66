package cmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func manCommand() *command {
	return &command{
		name: "man", does: "print the manual page",
		details:  `Prints the page coord(1) in man format: what coord help says about each command, in one text.`,
		examples: []string{"coord man | man -l -", "coord man > /usr/local/share/man/man1/coord.1"},
		run: func(_ context.Context, r *run) error {
			page := manual()
			if r.json {
				r.object(struct {
					V    int    `json:"v"`
					Page string `json:"page"`
				}{schema, page})
				return nil
			}
			r.printf("%s", page)
			return nil
		},
	}
}

// roff builds a manual page.
type roff struct{ strings.Builder }

// roffText escapes text, so that none of it is taken for a request.
var roffText = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

func (m *roff) text(s string) {
	for line := range strings.SplitSeq(s, "\n") {
		line = roffText.Replace(line)
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, `\(aq`) {
			line = `\&` + line
		}
		m.WriteString(line + "\n")
	}
}

func (m *roff) section(name string) { m.WriteString(".SH " + strings.ToUpper(name) + "\n") }

// block writes lines that are not filled.
func (m *roff) block(s string) {
	m.WriteString(".PP\n.nf\n")
	m.text(s)
	m.WriteString(".fi\n")
}

// entry writes a term and its meaning.
func (m *roff) entry(term, means string) {
	m.WriteString(".TP\n.B ")
	m.text(term)
	m.text(means)
}

func (m *roff) options(flags []cli.Flag) {
	for _, line := range flagLines(flags) {
		term, means, _ := strings.Cut(line, "\t")
		m.entry(term, means)
	}
}

// manual is the page of all commands, made from the same table as help.
func manual() string {
	var m roff
	fmt.Fprintf(&m, ".TH COORD 1 \"\" \"coord %s\"\n", release)
	m.section("name")
	m.text("coord - a coordination daemon, and its command line")
	m.section("synopsis")
	m.text("coord COMMAND [FLAGS] [ARGUMENTS]")
	m.section("description")
	m.text(`Flags may stand before and behind arguments, up to --. stdout carries the answer, stderr everything else, and the exit
status tells what happened. coord help COMMAND shows what stands here of a command.`)
	m.section("commands")
	for _, c := range commands() {
		m.WriteString(".SS ")
		m.text(strings.TrimSpace("coord " + c.name + " " + c.args))
		m.text(sentence(c.does))
		if c.details != "" {
			m.block(c.details)
		}
		m.options(c.flags)
		if c.connects {
			m.WriteString(".PP\n")
			m.text("It takes the flags of commands that talk to a server, see OPTIONS.")
		}
		m.WriteString(".PP\nExamples:\n")
		m.block("    " + strings.Join(c.examples, "\n    "))
	}
	m.section("options")
	m.text("Of all commands:")
	m.options(outputFlags())
	m.entry("--help, -h", "explain the command")
	m.WriteString(".PP\nOf commands that talk to a server:\n")
	m.options(connectFlags())
	m.section("environment")
	m.entry("COORD_AUTH", "user:password for the server; --auth-file wins")
	m.WriteString(".PP\nA variable that stands for a flag is named beside it, as [$NAME].\n")
	m.section("exit status")
	for _, e := range exitCodes {
		m.entry(fmt.Sprint(e.code), e.means)
	}
	return m.String()
}

// sentence turns the summary of a command into a sentence.
func sentence(does string) string { return strings.ToUpper(does[:1]) + does[1:] + "." }
