package cmd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"coord/server"
)

// serverOptions is what the flags, the environment and the configuration file of
// coord server decide.
type serverOptions struct {
	server.Config
	logLevel  string // empty: by where the log goes
	logFormat string // auto, json or console
}

// setting is something that --NAME, COORD_NAME and the key NAME of the
// configuration file decide.
type setting struct {
	name   string
	usage  string
	shown  string // the default, in words
	repeat bool   // may be given several times; each time with commas too
	set    func(o *serverOptions, values []string) error
}

// env is the environment's name of a setting.
func (s *setting) env() string {
	return "COORD_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// settings are all of them, in the order of help and docs/configuration.md.
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
		name: "data-dir", usage: "the data `FOLDER`, made if it is missing", shown: server.DefaultDataDir,
		set: one(func(o *serverOptions, v string) error { o.DataDir = v; return nil }),
	},
	{
		name: "name", usage: "the node's `NAME`, for people", shown: "the host's name",
		set: one(func(o *serverOptions, v string) error { o.Name = v; return nil }),
	},
	{
		name: "cluster", usage: "the cluster's `NAME`, for people", shown: server.DefaultCluster,
		set: one(func(o *serverOptions, v string) error { o.Cluster = v; return nil }),
	},
	{
		name: "super-digest", usage: "the operator: `USER:BASE64` of the SHA-1 of user:password; loopback alone is none any more", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.SuperDigest = v; return nil }),
	},
	{
		name: "max-client-conns", usage: "at most `N` connections from one address; 0: no limit", shown: "60",
		set: one(func(o *serverOptions, v string) (err error) { o.MaxClientConns, err = number(v); return err }),
	},
	{
		name: "4lw-whitelist", usage: "the four-letter `WORDS` that are answered, with commas; *: all", shown: "ruok,srvr,mntr,isro", repeat: true,
		set: func(o *serverOptions, v []string) error { o.FourLetter = v; return nil },
	},
	{
		name: "max-frame", usage: "the largest request and the largest value: `SIZE` such as 1MiB", shown: "1MiB",
		set: one(func(o *serverOptions, v string) error {
			n, err := parseSize(v)
			if err == nil && n > server.MaxMaxFrame {
				err = fmt.Errorf("at most %d bytes are possible", server.MaxMaxFrame)
			}
			o.MaxFrame = int(n)
			return err
		}),
	},
	{
		name: "snapshot-every", usage: "a snapshot after so many transactions or so much log: `N` or SIZE, or both", shown: "100000,64MiB", repeat: true,
		set: setSnapshotEvery,
	},
	{
		name: "snapshot-keep", usage: "keep the newest `N` snapshots, and the log back to the oldest", shown: "3",
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
			return fmt.Errorf("debug, info, warn or error is meant")
		}),
	},
	{
		name: "log-format", usage: "`FORMAT`: json, console (on a terminal only), or auto", shown: "auto",
		set: one(func(o *serverOptions, v string) error {
			if v != "auto" && v != "json" && v != "console" {
				return fmt.Errorf("auto, json or console is meant")
			}
			o.logFormat = v
			return nil
		}),
	},
	{
		name: "peer-tls-cert", usage: "TLS with other nodes: the `FILE` with this node's certificate, which coord cert makes", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.ensemble().TLSCert = v; return nil }),
	},
	{
		name: "peer-tls-key", usage: "the `FILE` with its key", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.ensemble().TLSKey = v; return nil }),
	},
	{
		name: "peer-tls-ca", usage: "the `FILE` with the authority that all nodes' certificates are of", shown: "none",
		set: one(func(o *serverOptions, v string) error { o.ensemble().TLSCA = v; return nil }),
	},
}

// ensemble is where settings about other nodes go.
func (o *serverOptions) ensemble() *server.Ensemble {
	if o.Ensemble == nil {
		o.Ensemble = &server.Ensemble{}
	}
	return o.Ensemble
}

// ensembleSettings belong to more than one node: refused until that works. The
// value says whether it takes one.
var ensembleSettings = []struct {
	name  string
	value bool
}{
	{"peer-listen", true}, {"gossip-listen", true}, {"advertise", true}, {"join", true}, {"expect", true},
	{"initial", true}, {"observer", false}, {"secret-file", true},
}

// ensembleError says that a setting needs what does not work yet.
func ensembleError(what string) error {
	return &usageError{msg: what + ": ensembles are not supported yet: coord runs as a single node", hint: "leave it out"}
}

// settingNamed finds a setting.
func settingNamed(name string) *setting {
	for _, s := range settings {
		if s.name == name {
			return s
		}
	}
	return nil
}

// one makes the setter of what is one value.
func one(set func(o *serverOptions, v string) error) func(*serverOptions, []string) error {
	return func(o *serverOptions, v []string) error { return set(o, v[len(v)-1]) }
}

// apply hands a setting its values, from wherever they come.
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
		return fmt.Errorf("it is empty")
	}
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

// sizeUnits are powers of two; the longer names first.
var sizeUnits = []struct {
	name  string
	shift uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"K", 10}, {"M", 20}, {"G", 30}, {"k", 10}, {"B", 0}}

// parseSize reads a number of bytes: 1048576, 512KiB, 1MiB, 1M, 10k.
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

// checkListen judges the form of an address; whether it can be had shows later.
func checkListen(addr string) error {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if path == "" {
			return fmt.Errorf("unix:PATH is meant")
		}
		return nil
	}
	i := strings.LastIndexByte(addr, ':')
	if i < 0 || strings.Contains(addr, "://") || strings.ContainsAny(addr, " \t/") {
		return fmt.Errorf("%s is not ADDR:PORT or unix:PATH", quote(addr))
	}
	if _, err := strconv.ParseUint(addr[i+1:], 10, 16); err != nil {
		return fmt.Errorf("%s has no port from 0 to 65535 at its end", quote(addr))
	}
	return nil
}
