package cmd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"coord/server"
)

func serverCommand() *command {
	return &command{
		name: "server", does: "run a server",
		details: `Without flags it is a complete server on 127.0.0.1:2181, with its data in ./coord-data.
SIGTERM, SIGINT and SIGHUP stop it; a second signal ends it at once. Each flag has an environment variable, and is a key of
the file of --config, which may be ZooKeeper's zoo.cfg. A flag wins over the environment, and the environment over the file.
With --join, --expect, --initial, --observer, --secret-file, --peer-listen or --gossip-listen the server is a node of an
ensemble and opens ports for the other nodes: outside loopback only with a secret, the same on all nodes.`,
		examples: []string{
			"coord server", "coord server --data-dir /var/lib/coord --listen 0.0.0.0:2181 --listen unix:/run/coord.sock",
			"coord server --listen :2181 --secret-file /etc/coord.secret --expect 3 --join host1,host2,host3",
			"coord server --config /etc/zookeeper/zoo.cfg", "COORD_LOG_FORMAT=json coord server",
		},
		choices: map[string][]string{"log-level": {"debug", "info", "warn", "error"}, "log-format": {"json", "console", "auto"}},
		flags:   serverFlags(),
		run:     runServer,
	}
}

// serverFlags are made from the table of settings.
func serverFlags() []cli.Flag {
	var flags []cli.Flag
	for _, s := range settings {
		switch {
		case s.repeat:
			flags = append(flags, &cli.StringSliceFlag{Name: s.name, Usage: s.usage, EnvVars: []string{s.env()}, DefaultText: s.shown})
		case s.toggle:
			flags = append(flags, &cli.BoolFlag{Name: s.name, Usage: s.usage, EnvVars: []string{s.env()}, DisableDefaultText: true})
		default:
			flags = append(flags, &cli.StringFlag{Name: s.name, Usage: s.usage, EnvVars: []string{s.env()}, DefaultText: s.shown})
		}
	}
	flags = append(flags, &cli.StringFlag{Name: "config", Usage: "a properties `FILE` with the keys above, or ZooKeeper's", EnvVars: []string{"COORD_CONFIG"}, DefaultText: "none"})
	return flags
}

// options puts the configuration together: the file first, then the environment and
// the flags, which override it.
func (r *run) options() (o serverOptions, warnings []string, err error) {
	b := readBuild()
	o = defaultOptions()
	o.Version, o.Built = b.Version, b.built()
	if file := r.flags.String("config"); file != "" {
		if warnings, err = readConfig(&o, file); err != nil {
			if usage, ok := errors.AsType[*usageError](err); ok {
				return o, nil, &usageError{msg: err.Error(), hint: usage.hint}
			}
			return o, nil, &usageError{msg: err.Error()}
		}
	}
	for _, s := range settings {
		given := r.given(s.name)
		if !given && os.Getenv(s.env()) == "" {
			continue
		}
		values := []string{r.flags.String(s.name)}
		switch {
		case s.repeat:
			values = r.flags.StringSlice(s.name)
		case s.toggle:
			values = []string{strconv.FormatBool(r.flags.Bool(s.name))}
		}
		if err := s.apply(&o, values); err != nil {
			from := "--" + s.name
			if !given {
				from = s.env()
			}
			return o, nil, &usageError{msg: from + ": " + err.Error(), hint: "coord help server"}
		}
	}
	r.takeSecret(&o)
	more, err := o.settle()
	if err == nil {
		err = o.Validate()
	}
	if err != nil {
		return o, nil, &usageError{msg: err.Error()}
	}
	return o, append(warnings, more...), nil
}

func runServer(ctx context.Context, r *run) error {
	o, warnings, err := r.options()
	if err != nil {
		return err
	}
	ctx, stop := catchSignals(ctx, syscall.SIGHUP)
	defer stop()
	// After the first signal nothing handles the next one: it ends the process.
	defer context.AfterFunc(ctx, func() { signal.Reset(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM) })()
	log := r.logger(&o)
	for _, w := range warnings {
		log.Warn().Msg(w)
	}
	err = server.Run(ctx, o.Config, log, func(at server.Listening) {
		if r.tty && !r.json && !r.quiet {
			r.welcome(at)
		}
	})
	if is[*signalError](context.Cause(ctx)) && errors.Is(err, context.Canceled) {
		return nil // stopped before it was ready
	}
	return err
}

// welcome tells a user on a terminal that the server is ready, and what to type next.
func (r *run) welcome(at server.Listening) {
	next := "coord status"
	if addr := at.Addrs[0]; addr != server.DefaultListen && !strings.HasSuffix(addr, "]:2181") {
		next = "coord status --server " + addr
	}
	r.note("coord %s is ready after %v: it listens on %s, its data is in %s; next, in another terminal: %s",
		release, at.Took.Round(time.Millisecond), strings.Join(at.Addrs, ", "), at.DataDir, next)
}

// logger writes the server's log to stderr: for people on a terminal, otherwise as JSON.
func (r *run) logger(o *serverOptions) zerolog.Logger {
	if r.quiet {
		return zerolog.Nop()
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
	console := r.tty && !r.json && o.logFormat != "json"
	level := zerolog.InfoLevel
	if console {
		level = zerolog.WarnLevel // the welcome says the rest
	}
	if o.logLevel != "" {
		level, _ = zerolog.ParseLevel(o.logLevel)
	}
	if !console {
		log := zerolog.New(r.err).Level(level).With().Timestamp().Logger()
		if o.logFormat == "console" {
			log.Warn().Msg("the console format needs a terminal: the log is written as JSON")
		}
		return log
	}
	return zerolog.New(zerolog.ConsoleWriter{
		Out: r.err, NoColor: os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb", TimeFormat: time.TimeOnly,
	}).Level(level).With().Timestamp().Logger()
}
