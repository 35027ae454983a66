package cmd

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"
)

func helpCommand() *command {
	return &command{
		name: "help", args: "[COMMAND]", does: "explain a command", max: -1,
		examples: []string{"coord help", "coord help snapshot verify"},
		run:      func(context.Context, *run) error { return nil }, // parseLine handles it
	}
}

const topHelp = `coord: a coordination daemon, and its command line

coord COMMAND [FLAGS] [ARGUMENTS]

Commands
{{range .Commands}}  {{.Name}}{{"\t"}}{{.Does}}
{{end}}
Flags of all commands, before or after the command
{{range .Common}}  {{.}}
{{end}}
Flags may stand before and after arguments, up to --.
coord help COMMAND explains a command, with examples. Start with: coord server
`

const commandHelp = `coord {{.Name}}{{with .Args}} {{.}}{{end}}

{{.Does}}
{{with .Details}}
{{.}}
{{end}}{{with .Own}}
Flags
{{range .}}  {{.}}
{{end}}{{end}}
Common flags
{{range .Common}}  {{.}}
{{end}}{{with .Below}}
Commands
{{range .}}  {{.Name}}{{"\t"}}{{.Does}}
{{end}}{{end}}
Examples
{{range .Examples}}  {{.}}
{{end}}`

// helpPage is the data of the templates.
type helpPage struct {
	Name, Args, Does, Details string
	Own, Common, Examples     []string
	Commands, Below           []helpRow
}

type helpRow struct{ Name, Does string }

// help prints the help of a command, or of all commands. Help is an answer, so it goes to stdout.
func (c *console) help(cmd *command) error {
	page, templ := helpPage{}, topHelp
	if cmd == nil {
		page.Common = flagLines((&command{connects: true}).commonFlags())
		for _, each := range commands() {
			page.Commands = append(page.Commands, helpRow{strings.TrimSpace(each.name + " " + each.args), each.does})
		}
	} else {
		templ = commandHelp
		page = helpPage{
			Name: cmd.name, Args: cmd.args, Does: sentence(cmd.does), Details: cmd.details,
			Own: flagLines(cmd.flags), Common: flagLines(cmd.commonFlags()), Examples: cmd.examples,
		}
		for _, each := range commands() {
			if strings.HasPrefix(each.name, cmd.name+" ") {
				page.Below = append(page.Below, helpRow{strings.TrimSpace(each.name + " " + each.args), each.does})
			}
		}
	}
	cli.HelpPrinterCustom(c.out, templ, page, nil)
	return c.flush()
}

// flagLines are the flags as the library formats them, without hidden ones.
func flagLines(flags []cli.Flag) (lines []string) {
	for _, f := range flags {
		if visible(f) {
			lines = append(lines, f.String())
		}
	}
	return lines
}

func visible(f cli.Flag) bool {
	v, ok := f.(cli.VisibleFlag)
	return !ok || v.IsVisible()
}
