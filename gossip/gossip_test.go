package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// member is a running Gossip.
type member struct {
	*Gossip
	addr netip.AddrPort
	stop func() // stops it, with a message to the others
	end  chan error
}

// quick is a Config with a fiftieth of the usual times.
func quick(node, boot uint64, seeds ...netip.AddrPort) Config {
	cfg := DefaultConfig()
	cfg.Self = Member{Node: node, Boot: boot, Name: fmt.Sprintf("n%d", node), PeerPort: 2888}
	cfg.Label, cfg.Secret = "edge", []byte("a secret")
	cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Probe, cfg.Rejoin = 50*time.Millisecond, 200*time.Millisecond
	for _, s := range seeds {
		cfg.Seeds = append(cfg.Seeds, s.String())
	}
	return cfg
}

func run(t *testing.T, cfg Config) *member {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{Gossip: g, end: make(chan error, 1)}
	at := make(chan netip.AddrPort, 1)
	go func() { m.end <- g.Run(ctx, func(a netip.AddrPort) { at <- a }) }()
	m.stop = func() {
		cancel()
		err := <-m.end
		m.end <- err
		if err != nil {
			t.Error(err)
		}
	}
	select {
	case m.addr = <-at:
	case err := <-m.end:
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	return m
}

// sees waits until the list of members satisfies ok.
func (m *member) sees(t *testing.T, what string, ok func(all []Member) bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !ok(m.Members()) {
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("node %d never sees %s: %+v", m.cfg.Self.Node, what, m.Members())
		}
	}
}

func (m *member) seesNodes(t *testing.T, want ...uint64) {
	t.Helper()
	m.sees(t, fmt.Sprintf("the nodes %d", want), func(all []Member) bool {
		var nodes []uint64
		for _, x := range all {
			nodes = append(nodes, x.Node)
		}
		return slices.Equal(nodes, want)
	})
}

func find(all []Member, node uint64) Member {
	for _, m := range all {
		if m.Node == node {
			return m
		}
	}
	return Member{}
}

// TestThreeMembers: they find each other, see each other's changes, notice a member that leaves and
// one that dies, and accept at once a member that comes back elsewhere with a higher boot.
func TestThreeMembers(t *testing.T) {
	a := run(t, quick(1, 1))
	b := run(t, quick(2, 1, a.addr))
	c := run(t, quick(3, 1, a.addr))
	all := []*member{a, b, c}
	for _, m := range all {
		m.seesNodes(t, 1, 2, 3)
	}
	a.sees(t, "2 as it is", func(all []Member) bool { // a member that was silent for a moment may be missing for another
		x := find(all, 2)
		return x.Host == "127.0.0.1" && x.GossipPort == b.addr.Port() && x.PeerPort == 2888 && x.Name == "n2"
	})

	news := b.cfg.Self
	news.Cluster, news.State, news.View, news.Host = [16]byte{1}, 2, 77, "host-2"
	if err := b.Update(news); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		m.sees(t, "the news of 2", func(all []Member) bool {
			x := find(all, 2)
			return x.Cluster == news.Cluster && x.State == 2 && x.View == 77 && x.Host == "host-2" && x.GossipPort == b.addr.Port()
		})
	}

	c.stop()
	a.seesNodes(t, 1, 2)
	b.seesNodes(t, 1, 2)

	// The address of a killed member is not free yet, and its old name not dead yet.
	b2 := quick(2, 2, a.addr)
	b2.Self.PeerPort = 9999
	again := run(t, b2)
	a.sees(t, "the new boot of 2", func(all []Member) bool { return find(all, 2).PeerPort == 9999 && find(all, 2).Boot == 2 })
	again.seesNodes(t, 1, 2)
	b.stop()
	time.Sleep(300 * time.Millisecond) // the end of the old boot is not that of the new one
	a.sees(t, "the new boot of 2 still", func(all []Member) bool { return find(all, 2).Boot == 2 })
}

// TestNoNews: an announcement without a change, by the node itself or through gossip, is not
// reported. A node that waits for others announces its state whenever something has changed, and
// would otherwise do so for ever.
func TestNoNews(t *testing.T) {
	g, err := New(quick(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	isNews := func(what string, want bool) {
		t.Helper()
		changed, updated := len(g.Changed()) > 0, len(g.updated) > 0
		if changed != want {
			t.Errorf("%s: changed %v", what, changed)
		}
		for changed || updated {
			select {
			case <-g.Changed():
				changed = false
			case <-g.updated:
				updated = false
			}
		}
	}
	say := func(m Member, want bool) {
		t.Helper()
		if err := g.Update(m); err != nil {
			t.Fatal(err)
		}
		if updated := len(g.updated) > 0; updated != want {
			t.Errorf("%+v: said to the others: %v", m, updated)
		}
		isNews(fmt.Sprintf("%+v", m), want)
	}
	m := g.cfg.Self
	say(m, false)
	m.View = 7
	say(m, true)
	say(m, false)

	n := &memberlist.Node{Name: gossipName(2, 1), Addr: net.IPv4(127, 0, 0, 1), Port: 9}
	n.Meta = (&Member{Node: 2, Boot: 1}).encode()
	g.members.NotifyJoin(n)
	isNews("a member comes", true)
	g.members.NotifyUpdate(n)
	isNews("it says the same", false)
	n.Port = 10
	g.members.NotifyUpdate(n)
	isNews("it is elsewhere", true)
	g.members.NotifyLeave(n)
	isNews("it goes", true)
	g.members.NotifyLeave(n)
	isNews("it goes again", false)
	g.members.NotifyJoin(n)
	isNews("it is back", true)
}

// TestASilentMemberIsGone: its packets stop without a Leave.
func TestASilentMemberIsGone(t *testing.T) {
	a := run(t, quick(1, 1))
	cfg := quick(2, 1, a.addr)
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	logger := newLogger(zerolog.Nop())
	tr, port, err := listen(t.Context(), cfg.Listen, logger)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := g.config(tr, netip.AddrPortFrom(cfg.Listen.Addr(), port), logger)
	if err != nil {
		t.Fatal(err)
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := list.Join([]string{a.addr.String()}); err != nil {
		t.Fatal(err)
	}
	a.seesNodes(t, 1, 2)
	if err := list.Shutdown(); err != nil { // no Leave
		t.Fatal(err)
	}
	a.seesNodes(t, 1)
	// It is remembered, and called again.
	if _, gone := a.members.addresses(time.Now()); !slices.Contains(gone, netip.AddrPortFrom(cfg.Listen.Addr(), port)) {
		t.Errorf("remembered: %v", gone)
	}
	if _, gone := a.members.addresses(time.Now().Add(memory + time.Minute)); len(gone) > 0 {
		t.Errorf("remembered for ever: %v", gone)
	}
}

// TestStrangersNeverMix: another label, another key, no key, another ensemble.
func TestStrangersNeverMix(t *testing.T) {
	a := quick(1, 1)
	a.Self.Cluster = [16]byte{1}
	first := run(t, a)
	label, key, plain, ensemble := quick(2, 1, first.addr), quick(3, 1, first.addr), quick(4, 1, first.addr), quick(5, 1, first.addr)
	label.Label, key.Secret, plain.Secret, ensemble.Self.Cluster = "edge2", []byte("b secret"), nil, [16]byte{2}
	var strangers []*member
	for _, cfg := range []Config{label, key, plain, ensemble} {
		strangers = append(strangers, run(t, cfg))
	}
	friend := run(t, quick(6, 1, first.addr)) // blank: it may become ours
	first.seesNodes(t, 1, 6)
	time.Sleep(time.Second)
	first.seesNodes(t, 1, 6)
	friend.sees(t, "1", func(all []Member) bool { return find(all, 1).Node == 1 })
	for _, m := range strangers {
		for _, x := range m.Members() {
			// The blank member may belong to the other ensemble as well.
			if x.Node != m.cfg.Self.Node && (m.cfg.Self.Node != 5 || x.Node != 6) {
				t.Errorf("node %d sees %+v", m.cfg.Self.Node, x)
			}
		}
	}
	// A member that was blank and now belongs to another ensemble is no member any more.
	news := friend.cfg.Self
	news.Cluster = [16]byte{2}
	if err := friend.Update(news); err != nil {
		t.Fatal(err)
	}
	first.seesNodes(t, 1)
}

// ownAddr is an address of this host at which no other program asks for just any port, so that a
// port that was free there is still free later.
const ownAddr = "127.66.0.1:0"

// TestAnIsolatedMemberComesBack: the seed is away for longer than memberlist remembers it, and then comes back.
func TestAnIsolatedMemberComesBack(t *testing.T) {
	l, err := net.Listen("tcp", ownAddr) // so that no other process takes the port meanwhile
	if err != nil {
		t.Fatal(err)
	}
	seed := l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close()
	a := run(t, quick(1, 1, seed))
	time.Sleep(500 * time.Millisecond)
	late := quick(2, 1)
	late.Listen = seed
	b := run(t, late)
	a.seesNodes(t, 1, 2)
	b.seesNodes(t, 1, 2)
}

// TestAMemberIsRemembered: a member without seeds that comes back after memberlist has forgotten it is called.
func TestAMemberIsRemembered(t *testing.T) {
	a := run(t, quick(1, 1))
	cfg := quick(2, 1, a.addr)
	cfg.Listen = netip.MustParseAddrPort(ownAddr)
	b := run(t, cfg)
	a.seesNodes(t, 1, 2)
	b.stop()
	a.seesNodes(t, 1)
	time.Sleep(31 * a.cfg.Probe)
	again := quick(2, 2)
	again.Listen = b.addr
	b = run(t, again)
	a.seesNodes(t, 1, 2)
	b.seesNodes(t, 1, 2)
}

// TestNothingIsLeft of a member that was stopped, while it was joining or after.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		a := run(t, quick(1, 1))
		dead := netip.MustParseAddrPort("192.0.2.1:2889") // no host has this address, by RFC 5737
		b := run(t, quick(2, 1, a.addr, dead))
		a.seesNodes(t, 1, 2)
		b.stop()
		a.stop()
	}
	for wait := time.Millisecond; runtime.NumGoroutine() > before; wait *= 2 {
		if wait > 20*time.Second {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
		time.Sleep(wait)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := quick(1, 1)
	cfg.Listen = l.Addr().(*net.TCPAddr).AddrPort()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context(), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
}

func TestAdvertised(t *testing.T) {
	t.Parallel()
	host := func(prefixes ...string) func() ([]net.Addr, error) {
		return func() (all []net.Addr, err error) {
			for _, p := range prefixes {
				ip, n, err := net.ParseCIDR(p)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, &net.IPNet{IP: ip, Mask: n.Mask})
			}
			return all, nil
		}
	}
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for _, c := range []struct {
		name, host string
		bind       netip.Addr
		local      func() ([]net.Addr, error)
		want       string
	}{
		{"asked for", "192.0.2.7", any4, host("10.0.0.1/8"), "192.0.2.7"},
		{"bound to", "", netip.MustParseAddr("192.0.2.8"), host("10.0.0.1/8"), "192.0.2.8"},
		{"private", "", any4, host("127.0.0.1/8", "198.51.100.1/24", "10.0.0.1/8"), "10.0.0.1"},
		{"only public", "", any4, host("127.0.0.1/8", "198.51.100.1/24"), "198.51.100.1"},
		{"only version 6", "", any6, host("::1/128", "fe80::1/64", "2001:db8::1/64"), "2001:db8::1"},
		{"version 6 cannot be reached", "", any4, host("2001:db8::1/64"), "127.0.0.1"},
		{"offline", "", any4, host("127.0.0.1/8", "169.254.1.1/16"), "127.0.0.1"},
		{"nobody can say", "", any4, func() ([]net.Addr, error) { return nil, errors.New("no") }, "127.0.0.1"},
	} {
		if got, err := advertised(t.Context(), c.host, c.bind, c.local); err != nil || got.String() != c.want {
			t.Errorf("%s: %v %v, want %s", c.name, got, err, c.want)
		}
	}
	if _, err := advertised(t.Context(), "no such host.invalid", any4, nil); err == nil {
		t.Error("a host that is none is advertised")
	}
}

func TestSeeds(t *testing.T) {
	t.Parallel()
	for seed, want := range map[string]string{"192.0.2.1": "192.0.2.1:2889", "192.0.2.1:7": "192.0.2.1:7", "[2001:db8::1]:7": "[2001:db8::1]:7", "2001:db8::1": "[2001:db8::1]:2889"} {
		if got, err := resolveSeed(t.Context(), seed); err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v %v, want %s", seed, got, err, want)
		}
	}
	for _, seed := range []string{"192.0.2.1:0", "192.0.2.1:x", "192.0.2.1:70000", "no such host.invalid"} {
		if got, err := resolveSeed(t.Context(), seed); err == nil {
			t.Errorf("%s: %v", seed, got)
		}
	}
}

// TestLog: memberlist's lines get a level, and lose the bracket.
func TestLog(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"[ERR] memberlist: Conflict\n":  `{"level":"warn","message":"Conflict"}`,
		"[WARN] memberlist: Refuting\n": `{"level":"debug","message":"Refuting"}`,
		"[INFO] memberlist: Suspect\n":  `{"level":"debug","message":"Suspect"}`,
		"[DEBUG] memberlist: Stream\n":  `{"level":"debug","message":"Stream"}`,
		"something else\n":              `{"level":"debug","message":"something else"}`,
		"[odd] thing\n":                 `{"level":"debug","message":"[odd] thing"}`,
	} {
		var b bytes.Buffer
		newLogger(zerolog.New(&b)).Print(line)
		if got := strings.TrimSpace(b.String()); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// TestLogRepeats: what memberlist repeats about a host that is away is a warning only now and then;
// another trouble is one at once.
func TestLogRepeats(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := newLogger(zerolog.New(&b))
	for range 3 {
		l.Print("[ERR] memberlist: Failed to send UDP ping: write udp: no route\n")
	}
	l.Print("[ERR] memberlist: Push/Pull with n2 failed: dial tcp: refused\n")
	if n := strings.Count(b.String(), `"warn"`); n != 2 {
		t.Errorf("%d warnings of 2 troubles:\n%s", n, b.String())
	}
}

// TestValidate checks Validate and the limit of what is remembered.
func TestValidate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *Config){
		"label":  func(c *Config) { c.Label = strings.Repeat("x", labelMax+1) },
		"listen": func(c *Config) { c.Listen = netip.AddrPort{} },
		"probe":  func(c *Config) { c.Probe = 0 },
		"node":   func(c *Config) { c.Self.Node = 0 },
		"name":   func(c *Config) { c.Self.Name = strings.Repeat("x", MaxName+1) },
	} {
		cfg := quick(1, 1)
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	g, err := New(quick(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Update(Member{Host: strings.Repeat("x", MaxHost+1)}); err == nil {
		t.Error("an update with a host that is too long is taken")
	}
	node := func(n uint64, name string) *memberlist.Node {
		m := Member{Node: n, Boot: 1}
		if name == "" {
			name = gossipName(n, 1)
		}
		return &memberlist.Node{Name: name, Addr: net.IPv4(10, 0, 0, 1), Port: 1, Meta: m.encode()}
	}
	for n := range uint64(maxMembers) {
		if err := g.members.NotifyAlive(node(n+2, "")); err != nil {
			t.Fatal(err)
		}
		g.members.NotifyJoin(node(n+2, ""))
	}
	for name, n := range map[string]*memberlist.Node{"one too many": node(maxMembers+2, ""), "another's name": node(2, gossipName(3, 1)), "no meta": {Name: "x"}} {
		if err := g.members.NotifyAlive(n); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := g.members.NotifyAlive(node(2, "")); err != nil {
		t.Errorf("one that is known: %v", err)
	}
}
