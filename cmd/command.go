package cmd

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"
)

// command is one row of the table of commands: its name, its help and the function
// that runs it.
type command struct {
	name     string // a subcommand's name has a space: "snapshot verify"
	args     string // as help shows them
	does     string // one line
	details  string // paragraphs
	examples []string
	min, max int // arguments; max -1: any number
	flags    []cli.Flag
	choices  map[string][]string // by flag, or by word of args: the values that completion offers
	connects bool                // takes the flags of connectFlags
	// asks says whether the requests of the command depend on replies, so that
	// --explain needs a server too; nil: they never do.
	asks func(r *run) bool
	run  func(ctx context.Context, r *run) error
}

// commands is the table of all commands, in the order of help.
func commands() []*command {
	return []*command{
		serverCommand(),
		getCommand(), setCommand(), createCommand(), rmCommand(), lsCommand(), existsCommand(),
		treeCommand(), duCommand(), findCommand(),
		txnCommand(), aclCommand(), aclGetCommand(), aclSetCommand(),
		exportCommand(), importCommand(),
		watchCommand(), shellCommand(),
		lockCommand(), lockAcquireCommand(), lockReleaseCommand(), lockLsCommand(), lockBreakCommand(), electCommand(), barrierCommand(), fenceCommand(), fenceCheckCommand(),
		sessionCommand(), sessionNewCommand(), sessionRenewCommand(), sessionCloseCommand(), sessionLsCommand(),
		statusCommand(), membersCommand(), membersAddCommand(), membersRemoveCommand(), membersPromoteCommand(), membersReplaceCommand(), membersTransferCommand(), leaveCommand(),
		benchCommand(),
		snapshotCommand(), snapshotSaveCommand(), snapshotInspectCommand(), snapshotVerifyCommand(),
		restoreCommand(), recoverCommand(), certCommand(),
		completionCommand(), manCommand(),
		versionCommand(), helpCommand(),
	}
}

// outputFlags are the flags that every command takes.
func outputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "answer in JSON: one object, or one per line", DisableDefaultText: true},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing on stderr: only the exit code tells the result", DisableDefaultText: true},
	}
}

// commonFlags are the flags that the command shares with others.
func (c *command) commonFlags() []cli.Flag {
	if c.connects {
		return append(connectFlags(), outputFlags()...)
	}
	return outputFlags()
}

func (c *command) allFlags() []cli.Flag {
	return slices.Concat(c.flags, c.commonFlags())
}

// boolFlag makes a flag without a value.
func boolFlag(name, usage string, aliases ...string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage, DisableDefaultText: true}
}

// versionFlag is the expected version of a write.
func versionFlag(usage string) cli.Flag {
	return &cli.Int64Flag{Name: "v", Usage: usage, DefaultText: "any", Action: func(_ *cli.Context, n int64) error {
		if int64(int32(n)) != n { // the conversion would make it another version, or any version
			return usagef("-v %d: too large for a version", n)
		}
		return nil
	}}
}

// nullFlag and end decide how lists end their entries.
func nullFlag(usage string) cli.Flag { return boolFlag("null", usage, "0") }

func (r *run) end() string {
	if r.flags.Bool("null") {
		return "\x00"
	}
	return "\n"
}

// statFlag asks for the stat.
func statFlag(usage string) cli.Flag { return boolFlag("stat", usage, "s") }

// version is the value of versionFlag, or anyVersion.
func (r *run) version() int32 {
	if !r.flags.IsSet("v") {
		return anyVersion
	}
	return int32(r.flags.Int64("v"))
}
