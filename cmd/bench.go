package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"coord/client"
	"coord/cmd/bench"
)

func benchCommand() *command {
	presets := append(bench.PresetNames(), "all")
	return &command{
		name: "bench", does: "measure a server under load", connects: true,
		details: `The load generator speaks ZooKeeper's protocol: it measures coord and ZooKeeper alike, and with --compare both in turn. Each
client is a session on a connection of its own. All znodes that it makes are below one new znode, which is removed at the end,
also after Ctrl-C. It loads the server as much as it can: take care if others use the server.

--timeout is the longest wait for an answer. The figures are printed even if an error ended the measurement.`,
		examples: []string{
			"coord bench", "coord bench --mix set=30,get=70 --size 1k --clients 64 --outstanding 1", "coord bench --preset paced --rate 5000 --duration 30s",
			"coord bench --preset all --pid 4711 --compare 127.0.0.1:2182 --compare-pid 4712", "coord bench --watchers 1000 --json",
		},
		flags:   benchFlags(presets),
		choices: map[string][]string{"preset": presets, "mix": bench.OpNames()},
		asks:    neverAsks,
		run:     runBench,
	}
}

func benchFlags(presets []string) []cli.Flag {
	d := bench.Default()
	return []cli.Flag{
		&cli.StringFlag{Name: "preset", Usage: "named loads: `NAME`, separated by commas, of " + strings.Join(presets, ", ") + "; other flags change them"},
		&cli.IntFlag{Name: "clients", Usage: "`N` clients", Value: d.Clients},
		&cli.IntFlag{Name: "outstanding", Usage: "`N` requests of each client under way: the next is sent when one is answered", Value: d.Outstanding},
		&cli.IntFlag{Name: "batch", Usage: "send `N` of them together, when that many have been answered", DefaultText: "half of --outstanding"},
		&cli.StringFlag{Name: "mix", Usage: "the requests: `OP=SHARE`, separated by commas, of " + strings.Join(bench.OpNames(), ", "), DefaultText: d.Mix.String()},
		&cli.StringFlag{Name: "size", Usage: "bytes of a value: a `SIZE` such as 100, 1k, 1MiB", DefaultText: fmt.Sprint(d.Size)},
		&cli.IntFlag{Name: "keys", Usage: "`N` znodes to read and set, made first", Value: d.Keys},
		&cli.IntFlag{Name: "multi", Usage: "sets in a multi: `N`", Value: d.Multi},
		boolFlag("seq", "created znodes are sequential"),
		boolFlag("ephemeral", "created znodes are ephemeral", "e"),
		&cli.IntFlag{Name: "rate", Usage: "`N` requests a second in all, however slow the answers are", DefaultText: "no limit"},
		&cli.DurationFlag{Name: "duration", Usage: "measure for `TIME`", Value: d.Duration},
		&cli.IntFlag{Name: "requests", Usage: "measure `N` requests, however long that takes", DefaultText: "as many as --duration allows"},
		&cli.DurationFlag{Name: "warmup", Usage: "the `TIME` before that, which does not count", Value: d.Warmup},
		&cli.IntFlag{Name: "watchers", Usage: "another load: set a znode that `N` sessions watch, and wait until all have the event", DefaultText: "none"},
		&cli.IntFlag{Name: "sessions", Usage: "another load: open and close `N` sessions, --clients at a time", DefaultText: "none"},
		&cli.DurationFlag{Name: "hold", Usage: "keep the sessions open for `TIME`", Value: d.Hold},
		&cli.StringFlag{Name: "path", Usage: "make all znodes below `PATH`, which must not exist", DefaultText: "/bench-RANDOM"},
		boolFlag("keep", "do not remove the znodes that were made"),
		&cli.IntFlag{Name: "pid", Usage: "the server's process on this machine: `PID`, for its processor time and memory", DefaultText: "not known"},
		boolFlag("spread", "spread the clients over all addresses of --server, and of --compare: the nodes of an ensemble"),
		&cli.StringFlag{Name: "compare", Usage: "load the server `HOST:PORT` or unix:PATH in the same way, in turn, and print the ratios"},
		&cli.IntFlag{Name: "compare-pid", Usage: "the process of that server: `PID`", DefaultText: "not known"},
		&cli.IntFlag{Name: "rounds", Usage: "`N` rounds; figures are medians", DefaultText: "1, with --compare 3"},
	}
}

// benchLoads are the loads that the flags select.
func (r *run) benchLoads() ([]bench.Load, error) {
	loads := []bench.Load{bench.Default()}
	if names := r.flags.String("preset"); names == "all" {
		loads = bench.Presets()
	} else if names != "" {
		loads = nil
		for name := range strings.SplitSeq(names, ",") {
			l, ok := bench.Preset(name)
			if !ok {
				return nil, &usageError{msg: "unknown preset " + quote(name), hint: "presets: " + strings.Join(bench.PresetNames(), ", ")}
			}
			loads = append(loads, l)
		}
	}
	for i := range loads {
		if err := r.changeLoad(&loads[i]); err != nil {
			return nil, err
		}
		if err := loads[i].Validate(); err != nil {
			return nil, usagef("%v", err)
		}
	}
	return loads, nil
}

// changeLoad applies the flags that were given to a load.
func (r *run) changeLoad(l *bench.Load) error {
	for name, n := range map[string]*int{
		"clients": &l.Clients, "outstanding": &l.Outstanding, "batch": &l.Batch, "keys": &l.Keys, "multi": &l.Multi, "rate": &l.Rate,
		"requests": &l.Requests, "watchers": &l.Watchers, "sessions": &l.Sessions,
	} {
		if r.flags.IsSet(name) {
			*n = r.flags.Int(name)
		}
	}
	for name, d := range map[string]*time.Duration{"duration": &l.Duration, "warmup": &l.Warmup, "hold": &l.Hold} {
		if r.flags.IsSet(name) {
			*d = r.flags.Duration(name)
		}
	}
	if r.flags.IsSet("mix") {
		m, err := bench.ParseMix(r.flags.String("mix"))
		if err != nil {
			return usagef("--mix: %v", err)
		}
		l.Mix = m
	}
	if r.flags.IsSet("size") {
		n, err := parseSize(r.flags.String("size"))
		if err != nil {
			return usagef("--size: %v", err)
		}
		l.Size = int(min(n, bench.MaxSize+1)) // which Validate refuses
	}
	l.Sequential, l.Ephemeral = r.flags.Bool("seq"), r.flags.Bool("ephemeral")
	l.Path, l.Keep = r.flags.String("path"), r.flags.Bool("keep")
	return nil
}

// benchServer is one of the measured servers.
type benchServer struct {
	bench.Server
	name  string   // its address
	addrs []string // addresses of its nodes, if the clients are spread over them
	next  atomic.Uint64
}

// benchServer makes a benchServer of the first address that answers. A single
// address is not contacted until it is measured.
func (r *run) benchServer(ctx context.Context, addrs []string, pid string) (*benchServer, error) {
	within, _ := r.timeout()
	b := &benchServer{name: addrs[0]}
	b.Server = bench.Server{Dial: b.dial, Within: within, PID: r.flags.Int(pid), Several: r.flags.Bool("spread")}
	if b.Several {
		b.name, b.addrs = strings.Join(addrs, ","), addrs
		return b, nil
	}
	var errs []error
	for i := 0; i < len(addrs) && len(addrs) > 1; i++ {
		limited, cancel := r.limit(ctx)
		defer cancel()
		b.name = addrs[i]
		nc, err := b.dial(limited)
		if err == nil {
			return b, nc.Close()
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, &client.UnreachableError{Server: strings.Join(addrs, ","), Err: errors.Join(errs...)}
	}
	return b, nil
}

func (b *benchServer) dial(ctx context.Context) (net.Conn, error) {
	name, n := b.name, b.next.Add(1)-1
	if len(b.addrs) > 0 {
		name = b.addrs[n%uint64(len(b.addrs))]
	}
	network, addr, err := client.SplitServer(name)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{KeepAlive: -1} // saves four system calls that are not part of what is measured
	if host, err := netip.ParseAddrPort(addr); err == nil && network == "tcp" && host.Addr().Is4() && host.Addr().IsLoopback() {
		fromSource(&d, n)
	}
	nc, err := d.DialContext(ctx, network, addr)
	if err == nil {
		return nc, nil
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return nil, &client.UnreachableError{Server: name, Err: err}
}

// fromSource makes the nth connection to this host come from one of several addresses in turn, as if from several
// hosts. One address has 28,000 ports for all its connections to a server, including those of the last minute: finding
// a free port among them cost the kernel more time than all the rest of a session, and it is not part of a session.
func fromSource(d *net.Dialer, n uint64) {
	const sources = 64
	d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%sources))}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { // choose the port only when the destination is known
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		})
	}
}

func runBench(ctx context.Context, r *run) error {
	if r.explainer != nil {
		return &usageError{msg: "coord bench sends no requests of the text protocol", hint: "coord help bench explains what it does"}
	}
	loads, err := r.benchLoads()
	if err != nil {
		return err
	}
	addrs, o, err := r.target("")
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		addrs = []string{client.DefaultServer}
	}
	var servers []*benchServer
	pids, targets, rounds := []string{"pid", "compare-pid"}, [][]string{addrs}, 1
	if other := r.flags.String("compare"); other != "" {
		others := []string{other}
		if r.flags.Bool("spread") {
			others = strings.Split(other, ",")
		}
		for _, addr := range others {
			if _, _, err := client.SplitServer(addr); err != nil {
				return usagef("--compare: %q is not HOST:PORT or unix:PATH", addr)
			}
		}
		targets, rounds = append(targets, others), 3
	}
	if r.flags.IsSet("rounds") {
		rounds = r.flags.Int("rounds")
	}
	switch {
	case rounds < 1:
		return usagef("--rounds: expected 1 or more")
	case r.flags.IsSet("compare-pid") && len(targets) == 1:
		return &usageError{msg: "--compare-pid without --compare", hint: "--pid is the process of --server"}
	case r.flags.Bool("keep") && rounds*len(loads) > 1 && r.flags.IsSet("path"):
		return &usageError{msg: "--keep with --path is possible only with one load and one round", hint: "leave --path out"}
	}
	for _, name := range pids {
		if pid := r.flags.Int(name); r.flags.IsSet(name) && (pid < 1 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)) {
			return usagef("--%s %d: there is no such process", name, pid)
		}
	}
	for i, addrs := range targets {
		s, err := r.benchServer(ctx, addrs, pids[i])
		if err != nil {
			return err
		}
		if o.User != "" {
			s.Auth = append([]byte(o.User+":"), o.Password...)
		}
		servers = append(servers, s)
	}
	return r.benchAll(ctx, servers, loads, rounds)
}

// benchAll applies every load to every server in turn, round by round.
func (r *run) benchAll(ctx context.Context, servers []*benchServer, loads []bench.Load, rounds int) error {
	out := jsonBench{V: schema}
	var failed error
	for i := range loads {
		l := &loads[i]
		all := make([][]*bench.Result, len(servers))
		for round := range rounds {
			for k, s := range servers {
				s.Working = func(format string, a ...any) {
					r.progress("%s, %s, round %d of %d: %s", l.Name, s.name, round+1, rounds, fmt.Sprintf(format, a...))
				}
				res, err := bench.Run(ctx, s.Server, *l)
				if res != nil {
					all[k] = append(all[k], res)
				}
				if failed = r.benchError(s, err); failed != nil {
					break
				}
			}
			if failed != nil {
				break
			}
		}
		r.progressEnd()
		if figures := loadOf(l, rounds, servers, all); len(figures.Servers) > 0 {
			out.Loads = append(out.Loads, figures)
			if !r.json { // a load may take long: print its figures at once
				r.benchTable(l, servers, &figures)
				failed = cmp.Or(failed, r.flush())
			}
		}
		if failed != nil {
			break
		}
	}
	if r.json && len(out.Loads) > 0 {
		r.object(out)
	}
	return failed
}

// benchError turns the error of a run into that of the command.
func (r *run) benchError(s *benchServer, err error) error {
	switch left, isLeft := errors.AsType[*bench.LeftError](err); {
	case err == nil:
		return nil
	case is[*signalError](err):
		if isLeft { // a signal's error would not include it
			r.note("coord: %s", oneLine(left.Error()))
		}
		return err
	case is[*bench.LostError](err):
		return &client.UnreachableError{Server: s.name, Err: err}
	case is[*client.UnreachableError](err):
		return err
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

// jsonBench is the answer of bench.
type jsonBench struct {
	V     int             `json:"v"`
	Loads []jsonBenchLoad `json:"loads"`
}

type jsonBenchLoad struct {
	Name        string            `json:"name"`
	Clients     int               `json:"clients"`
	Outstanding int               `json:"outstanding"`
	Batch       int               `json:"batch"`
	Mix         string            `json:"mix"`
	Size        int               `json:"size"`
	Keys        int               `json:"keys"`
	Rate        int               `json:"rate,omitempty"`
	Watchers    int               `json:"watchers,omitempty"`
	Sessions    int               `json:"sessions,omitempty"`
	Rounds      int               `json:"rounds"`
	Servers     []jsonBenchServer `json:"servers"`
	Ratios      []jsonBenchRatio  `json:"ratios,omitempty"`
}

type jsonBenchServer struct {
	Server string `json:"server"`
	Rounds int    `json:"rounds"` // measured rounds
	*bench.Result
}

// jsonBenchRatio is the first server's figures divided by the second's; null if
// they cannot be divided.
type jsonBenchRatio struct {
	Op        string   `json:"op"`
	PerSecond *float64 `json:"per_second"`
	P50       *float64 `json:"p50"`
	P95       *float64 `json:"p95"`
	P99       *float64 `json:"p99"`
	P999      *float64 `json:"p999"`
	Max       *float64 `json:"max"`
}

func loadOf(l *bench.Load, rounds int, servers []*benchServer, all [][]*bench.Result) jsonBenchLoad {
	out := jsonBenchLoad{
		Name: l.Name, Clients: l.Clients, Outstanding: l.Outstanding, Batch: l.BatchOr(), Mix: l.Mix.String(), Size: l.Size, Keys: l.Keys, Rate: l.Rate,
		Watchers: l.Watchers, Sessions: l.Sessions, Rounds: rounds,
	}
	for i, s := range servers {
		if len(all[i]) > 0 {
			out.Servers = append(out.Servers, jsonBenchServer{s.name, len(all[i]), bench.Median(all[i])})
		}
	}
	if len(out.Servers) < 2 {
		return out
	}
	this, that := out.Servers[0].Ops, out.Servers[1].Ops
	for i := range min(len(this), len(that)) {
		a, b := &this[i], &that[i]
		out.Ratios = append(out.Ratios, jsonBenchRatio{
			a.Op, ratio(a.PerSecond, b.PerSecond), ratio(a.P50, b.P50), ratio(a.P95, b.P95), ratio(a.P99, b.P99), ratio(a.P999, b.P999), ratio(a.Max, b.Max),
		})
	}
	return out
}

func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	q := a / b
	return &q
}

// benchTable prints the results of a load for people.
func (r *run) benchTable(l *bench.Load, servers []*benchServer, out *jsonBenchLoad) {
	r.printf("%s: %v\n", l.Name, l)
	r.printf("%-11s %-9s %12s %8s %12s %10s %10s %10s %10s %10s\n", "", "", "count", "errors", "per second", "p50", "p95", "p99", "p99.9", "max")
	names := []string{"", ""}
	if len(servers) > 1 {
		names = []string{"this", "that"}
	}
	for i, f := range out.Servers[0].Ops {
		for k := range out.Servers {
			f := &out.Servers[k].Ops[i]
			op := f.Op
			if k > 0 {
				op = ""
			}
			r.printf("%-11s %-9s %12s %8s %12s %10s %10s %10s %10s %10s\n", op, names[k], count(f.Count), count(f.Failed()), count(int64(f.PerSecond+.5)),
				showUS(f.P50), showUS(f.P95), showUS(f.P99), showUS(f.P999), showUS(f.Max))
		}
		if len(out.Ratios) > 0 {
			q := out.Ratios[i]
			r.printf("%-11s %-9s %12s %8s %12s %10s %10s %10s %10s %10s\n", "", "this/that", "", "", showRatio(q.PerSecond),
				showRatio(q.P50), showRatio(q.P95), showRatio(q.P99), showRatio(q.P999), showRatio(q.Max))
		}
		for k := range out.Servers {
			r.benchErrors(out.Servers[k].Server, f.Op, out.Servers[k].Ops[i].Errors)
		}
	}
	for k := range out.Servers {
		s := &out.Servers[k]
		name := strings.TrimSpace(names[k] + " " + s.Server)
		var more []string
		if s.ServerUS > 0 {
			more = append(more, fmt.Sprintf("server %.2f µs of processor time each", s.ServerUS))
		}
		more = append(more, fmt.Sprintf("generator %.2f µs", s.GeneratorUS))
		if s.LateUS > 0 {
			more = append(more, "sent "+showUS(s.LateUS)+" late (p99)")
		}
		if s.Unsent > 0 {
			more = append(more, count(s.Unsent)+" were due but not sent")
		}
		if s.RSSAfter > 0 {
			more = append(more, fmt.Sprintf("memory %s before, %s with the sessions", size(s.RSSBefore), size(s.RSSAfter)))
		}
		r.printf("%s: %s\n", name, strings.Join(more, ", "))
	}
	r.printf("\n")
}

func (r *run) benchErrors(server, op string, errs map[string]int64) {
	words := make([]string, 0, len(errs))
	for word, n := range errs {
		words = append(words, fmt.Sprintf("%s %s", count(n), word))
	}
	if slices.Sort(words); len(words) > 0 {
		r.printf("            %s, errors of %s: %s\n", server, op, strings.Join(words, ", "))
	}
}

// showUS formats a latency.
func showUS(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.1f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.2f ms", us/1000)
	}
	return fmt.Sprintf("%.2f s", us/1e6)
}

func showRatio(q *float64) string {
	if q == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *q)
}
