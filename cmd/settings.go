package cmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"coord/server"
)

// serverOptions is the configuration of coord server, from its flags, the
// environment and the configuration file.
type serverOptions struct {
	server.Config
	ensemble   server.Ensemble // becomes Config.Ensemble if settle finds that the node belongs to an ensemble
	secretFile string          // the file with ensemble.Secret
	zoo        zooServers
	given      map[string]bool // settings that were set, not left at their defaults
	logLevel   string          // empty: depends on where the log goes
	logFormat  string          // auto, json or console
}

func defaultOptions() serverOptions {
	return serverOptions{Config: server.DefaultConfig(), ensemble: server.DefaultEnsemble(), logFormat: "auto"}
}

// setting is an option that is set by --NAME, by COORD_NAME, or by the key NAME in
// the configuration file.
type setting struct {
	name   string
	usage  string
	shown  string // the default, in words
	repeat bool   // may be given several times; each value may be a list with commas
	toggle bool   // takes no value on the command line, elsewhere true or false
	set    func(o *serverOptions, values []string) error
}

// env is the setting's name in the environment.
func (s *setting) env() string {
	return "COORD_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// settings are all settings, in the order of help and docs/configuration.md.
var settings = []*setting{
	{
		name: "listen", usage: "`ADDR:PORT` or unix:PATH for clients; may be repeated", shown: server.DefaultListen, repeat: true,
		set: func(o *serverOptions, v []string) error {
			for _, addr := range v {
				if err := checkListen(addr); err != nil {
					return err
				}
			}
			o.Listen = v
			return nil
		},
	},
	{
		name: "data-dir", usage: "the data `FOLDER`, created if it is missing", shown: server.DefaultDataDir,
		set: one(func(o *serverOptions, v string) error { o.DataDir = v; return nil }),
	},
	{
		name: "name", usage: "the node's `NAME`, for people", shown: "the host's name",
		set: one(func(o *serverOptions, v string) error { o.Name = v; return nil }),
	},
	{
		name: "cluster", usage: "the cluster's `NAME`, for people; nodes of another cluster are ignored", shown: server.DefaultCluster,
		set: one(func(o *serverOptions, v string) error { o.Cluster = v; return nil }),
	},
	{
		name: "join", usage: "join the ensemble of one of `HOSTS`: HOST[:GOSSIP-PORT] each; may be repeated", shown: "none", repeat: true,
		set: func(o *serverOptions, v []string) error { o.ensemble.Join = v; return nil },
	},
	{
		name: "expect", usage: "found an ensemble with `N` new nodes, counting this one", shown: "none",
		set: one(func(o *serverOptions, v string) (err error) { o.ensemble.Expect, err = number(v); return err }),
	},
	{
		name: "initial", usage: "found an ensemble with these `NODES`, the same on all: NAME=HOST:PEER-PORT[:GOSSIP-PORT] each; may be repeated", shown: "none", repeat: true,
		set: setInitial,
	},
	{
		name: "observer", usage: "join without a vote, to serve reads", shown: "false", toggle: true,
		set: one(func(o *serverOptions, v string) error {
			return yesNo(func(o *serverOptions, yes bool) { o.ensemble.Observer = yes })(o, v)
		}),
	},
	{
		name: "secret-file", usage: "a `FILE` with the cluster's secret, readable only by you; or set COORD_SECRET to the secret: it is never an argument", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.secretFile = v; return nil }),
	},
	{
		name: "peer-listen", usage: "`ADDR:PORT` for the other nodes", shown: server.DefaultPeerListen,
		set: one(func(o *serverOptions, v string) error { o.ensemble.PeerListen = v; return checkAddr(v, "ADDR:PORT") }),
	},
	{
		name: "gossip-listen", usage: "`ADDR:PORT` for the other nodes' gossip, TCP and UDP", shown: server.DefaultGossipListen,
		set: one(func(o *serverOptions, v string) error { o.ensemble.GossipListen = v; return checkAddr(v, "ADDR:PORT") }),
	},
	{
		name: "advertise", usage: "the `HOST` at which the other nodes reach this one", shown: "found out",
		set: one(func(o *serverOptions, v string) error { o.ensemble.Advertise = v; return nil }),
	},
	{
		name: "sync-limit", usage: "the longest `TIME` without a leader before clients are sent elsewhere", shown: "10s",
		set: one(func(o *serverOptions, v string) (err error) { o.ensemble.SyncLimit, err = duration(v); return err }),
	},
	{
		name: "raft-tick", usage: "the `TIME` of one tick, the unit of the next two", shown: "100ms",
		set: one(func(o *serverOptions, v string) (err error) { o.ensemble.Tick, err = duration(v); return err }),
	},
	{
		name: "heartbeat-ticks", usage: "the leader sends a heartbeat every `N` ticks", shown: "2",
		set: one(func(o *serverOptions, v string) (err error) { o.ensemble.HeartbeatTicks, err = number(v); return err }),
	},
	{
		name: "election-ticks", usage: "after `N` ticks of silence another leader is elected: more than the longest pause of a node", shown: "6",
		set: one(func(o *serverOptions, v string) (err error) { o.ensemble.ElectionTicks, err = number(v); return err }),
	},
	{
		name: "super-digest", usage: "the operator: `USER:BASE64` of the SHA-1 of user:password; loopback alone then gives no operator rights", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.SuperDigest = v; return nil }),
	},
	{
		name: "max-client-conns", usage: "at most `N` connections from one address; 0: no limit", shown: "60",
		set: one(func(o *serverOptions, v string) (err error) { o.MaxClientConns, err = number(v); return err }),
	},
	{
		name: "4lw-whitelist", usage: "the four-letter `WORDS` that are answered, separated by commas; *: all", shown: "ruok,srvr,mntr,isro", repeat: true,
		set: func(o *serverOptions, v []string) error { o.FourLetter = v; return nil },
	},
	{
		name: "max-frame", usage: "the largest request and the largest value: `SIZE` such as 1MiB", shown: "1MiB",
		set: one(func(o *serverOptions, v string) error {
			n, err := parseSize(v)
			if err == nil && n > server.MaxMaxFrame {
				err = fmt.Errorf("at most %d bytes are allowed", server.MaxMaxFrame)
			}
			o.MaxFrame = int(n)
			return err
		}),
	},
	{
		name: "snapshot-every", usage: "take a snapshot after this many transactions or this much log: `N` or SIZE, or both", shown: "100000,64MiB", repeat: true,
		set: setSnapshotEvery,
	},
	{
		name: "snapshot-keep", usage: "keep the newest `N` snapshots, and the log back to the oldest; one if the disk is nearly full", shown: "3",
		set: one(func(o *serverOptions, v string) (err error) { o.SnapshotKeep, err = number(v); return err }),
	},
	{
		name: "log-level", usage: "`LEVEL`: debug, info, warn or error", shown: "info; on a terminal warn",
		set: one(func(o *serverOptions, v string) error {
			switch v {
			case zerolog.LevelDebugValue, zerolog.LevelInfoValue, zerolog.LevelWarnValue, zerolog.LevelErrorValue:
				o.logLevel = v
				return nil
			}
			return fmt.Errorf("expected debug, info, warn or error")
		}),
	},
	{
		name: "log-format", usage: "`FORMAT`: json, console (on a terminal only), or auto", shown: "auto",
		set: one(func(o *serverOptions, v string) error {
			if v != "auto" && v != "json" && v != "console" {
				return fmt.Errorf("expected auto, json or console")
			}
			o.logFormat = v
			return nil
		}),
	},
	{
		name: "peer-tls-cert", usage: "TLS with other nodes: the `FILE` with this node's certificate, which coord cert makes", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.ensemble.TLSCert = v; return nil }),
	},
	{
		name: "peer-tls-key", usage: "the `FILE` with its key", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.ensemble.TLSKey = v; return nil }),
	},
	{
		name: "peer-tls-ca", usage: "the `FILE` with the authority that has issued all nodes' certificates", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.ensemble.TLSCA = v; return nil }),
	},
}

// settingNamed finds a setting by its name; nil: there is none.
func settingNamed(name string) *setting {
	for _, s := range settings {
		if s.name == name {
			return s
		}
	}
	return nil
}

// one makes the setter of a setting with one value: the last one given counts.
func one(set func(o *serverOptions, v string) error) func(*serverOptions, []string) error {
	return func(o *serverOptions, v []string) error { return set(o, v[len(v)-1]) }
}

// apply sets a setting to the values that were given for it.
func (s *setting) apply(o *serverOptions, values []string) error {
	if s.repeat {
		var all []string
		for _, v := range values {
			for part := range strings.SplitSeq(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					all = append(all, part)
				}
			}
		}
		values = all
	}
	if len(values) == 0 || values[len(values)-1] == "" {
		return fmt.Errorf("the value is empty")
	}
	if o.given == nil {
		o.given = map[string]bool{}
	}
	o.given[s.name] = true
	return s.set(o, values)
}

func setSnapshotEvery(o *serverOptions, values []string) error {
	for _, v := range values {
		n, err := parseSize(v)
		switch {
		case err != nil || n == 0:
			return fmt.Errorf("%s is neither a number of transactions nor a size such as 64MiB", quote(v))
		case v[len(v)-1] >= '0' && v[len(v)-1] <= '9':
			o.SnapshotTxns = int(n)
		default:
			o.SnapshotBytes = n
		}
	}
	return nil
}

func number(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number", quote(v))
	}
	return int(n), nil
}

func duration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("%s is not a time such as 500ms or 10s", quote(v))
	}
	return d, nil
}

// sizeUnits are powers of two; longer names come first.
var sizeUnits = []struct {
	name  string
	shift uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"K", 10}, {"M", 20}, {"G", 30}, {"k", 10}, {"B", 0}}

// parseSize parses a number of bytes: 1048576, 512KiB, 1MiB, 1M, 10k.
func parseSize(v string) (int64, error) {
	digits, shift := v, uint(0)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(v, u.name); ok {
			digits, shift = d, u.shift
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("%s is not a size such as 1048576, 512KiB or 1MiB", quote(v))
	}
	return int64(n << shift), nil
}

// checkListen checks the form of an address, not whether it can be listened on.
func checkListen(addr string) error {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if path == "" {
			return fmt.Errorf("expected unix:PATH")
		}
		return nil
	}
	return checkAddr(addr, "ADDR:PORT or unix:PATH")
}

// checkAddr checks an ADDR:PORT; form is its name in errors.
func checkAddr(addr, form string) error {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 || strings.Contains(addr, "://") || strings.ContainsAny(addr, " \t/") {
		return fmt.Errorf("%s is not %s", quote(addr), form)
	}
	if _, err := strconv.ParseUint(addr[i+1:], 10, 16); err != nil {
		return fmt.Errorf("%s does not end with a port from 0 to 65535", quote(addr))
	}
	return nil
}
