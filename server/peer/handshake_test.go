package peer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A node that must not be let in is refused, both sides know why, and nothing from it comes to the
// handler.
func TestRefused(t *testing.T) {
	t.Parallel()
	other := [16]byte{9}
	for _, c := range []struct {
		name   string
		dialer func(c *Config)
		accept func(c *Config)
		to     uint64
		code   Code
		proven bool
	}{
		{name: "another cluster", dialer: func(c *Config) { c.Self.Cluster = other }, code: CodeCluster, proven: true},
		{name: "a blank dialer", dialer: func(c *Config) { c.Self.Cluster = [16]byte{} }, code: CodeCluster, proven: true},
		{name: "a blank acceptor", accept: func(c *Config) { c.Self.Cluster = [16]byte{} }, code: CodeCluster, proven: true},
		{name: "both blank", dialer: func(c *Config) { c.Self.Cluster = [16]byte{} },
			accept: func(c *Config) { c.Self.Cluster = [16]byte{} }, code: CodeCluster, proven: true},
		{name: "another node there", to: 3, code: CodeID, proven: true},
		{name: "its own id", dialer: func(c *Config) { c.Self.Node = 2 }, to: 3, code: CodeSelf, proven: true},
		{name: "no member", dialer: func(c *Config) { c.Self.Node = 7 }, code: CodeUnknown, proven: true},
		{name: "named no more", dialer: func(c *Config) { c.Self.Node = 4 }, code: CodeUnknown, proven: true},
		{name: "a lost log", accept: func(c *Config) {
			c.Admit = func(h Hello) *Refusal {
				return &Refusal{Code: CodeBehind, Text: fmt.Sprintf("it had 99 entries, and has %d", h.Index)}
			}
		}, code: CodeBehind, proven: true},
		{name: "an older copy", accept: func(c *Config) { c.Floor = func(node uint64) (uint64, uint64) { return 10*node + 1, 0 } }, code: CodeBehind, proven: true},
		{name: "another secret", dialer: func(c *Config) { c.Secret = []byte("x") }, code: CodeProof},
		{name: "a longer secret", dialer: func(c *Config) { c.Secret = append(c.Secret, 'x') }, code: CodeProof},
		{name: "no secret", dialer: func(c *Config) { c.Secret = nil }, code: CodeSecret},
		{name: "a secret, and none here", accept: func(c *Config) { c.Secret = nil }, code: CodeSecret},
		{name: "another name", dialer: func(c *Config) { c.ClusterName = "tes" }, code: CodeName},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				nop := func(*Config) {}
				if c.dialer == nil {
					c.dialer = nop
				}
				if c.accept == nil {
					c.accept = nop
				}
				if c.to == 0 {
					c.to = 2
				}
				a, b := n.start(t, 1, c.dialer), n.start(t, 2, c.accept)
				for _, id := range []uint64{1, 4} {
					b.SetPeer(id, nil)
				}
				b.RemovePeer(4)
				a.SetPeer(c.to, []string{"n2"})
				time.Sleep(time.Second)
				a.stop()
				b.stop()
				if len(a.told)+len(b.told)+len(b.msgs) > 0 {
					t.Error("it came in:", a.told, b.told)
				}
				if len(a.refusals) == 0 || len(b.refusals) == 0 {
					t.Fatal("nobody was refused", a.logs.b.String())
				}
				told, said := a.refusals[0], b.refusals[0]
				if told.Code != c.code || told.Ours || told.Proven != c.proven || told.Text == "" {
					t.Errorf("the dialer is told %+v", told)
				}
				if said.Code != c.code || !said.Ours || said.Proven != c.proven || said.Text != told.Text {
					t.Errorf("the acceptor says %+v", said)
				}
				if a.logs.count("retrying") != 1 || b.logs.count("refused a peer") != 1 {
					t.Errorf("logged: %s %s", a.logs.b.String(), b.logs.b.String())
				}
			})
		})
	}
}

// While an ensemble forms or grows it is normal that a node is no member yet, or another node than the dialer
// looks for: the operator gets a warning only if it lasts.
func TestEarlyRefusalsAreQuiet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accept func(c *Config)
		to     uint64
		lasts  time.Duration
		warns  [2]int // of the dialer, and of the node that refuses it
	}{
		"no member yet":      {func(c *Config) { c.Self.Cluster = [16]byte{} }, 2, earlyTime / 2, [2]int{}},
		"no member for long": {func(c *Config) { c.Self.Cluster = [16]byte{} }, 2, earlyTime + 2*MostPause, [2]int{1, 0}},
		"another one":        {func(*Config) {}, 3, earlyTime / 2, [2]int{}},
		"another for long":   {func(*Config) {}, 3, earlyTime + 2*MostPause, [2]int{1, 0}},
		"one of another":     {func(c *Config) { c.Self.Cluster = [16]byte{9} }, 3, earlyTime / 2, [2]int{1, 1}},
		"of another cluster": {func(c *Config) { c.Self.Cluster = [16]byte{9} }, 2, earlyTime / 2, [2]int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				a, b := n.start(t, 1, func(*Config) {}), n.start(t, 2, c.accept)
				a.SetPeer(c.to, []string{"n2"})
				time.Sleep(c.lasts)
				a.stop()
				b.stop()
				if got := [2]int{a.logs.count(`"level":"warn"`), b.logs.count(`"level":"warn"`)}; got != c.warns {
					t.Errorf("%d warnings: %s %s", got, a.logs.b.String(), b.logs.b.String())
				}
			})
		})
	}
}

// If another node answers at a peer's address, the operator gets a warning at once, however young the links
// are.
func TestAPeerBecomesAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1), n.start(t, 2)
		meet(a, b)
		time.Sleep(earlyTime / 5)
		b.stop()
		other := run(t, Config{Self: Identity{Cluster: testCluster, Node: 3, Boot: 1, Name: "n3"}, Listen: n.listen("n2"), Dial: n.dialer("n3")})
		time.Sleep(2 * MostPause)
		a.stop()
		other.stop()
		for line := range strings.Lines(a.logs.b.String()) {
			if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, ": "+CodeID.String()+": ") {
				return
			}
		}
		t.Errorf("nothing is said of it: %s", a.logs.b.String())
	})
}

// A refusal can mean that a node is becoming a member only if it is proven, and one of the two nodes has no
// cluster.
func TestIsEarly(t *testing.T) {
	t.Parallel()
	none, ours, other := [16]byte{}, testCluster, [16]byte{9}
	for _, c := range []struct {
		code         Code
		proven       bool
		here, theirs [16]byte
		want         bool
	}{
		{CodeID, true, ours, ours, true},
		{CodeID, false, ours, ours, false},
		{CodeCluster, true, ours, none, true},
		{CodeCluster, true, none, ours, true},
		{CodeCluster, false, none, ours, false},
		{CodeCluster, true, ours, other, false},
		{CodeRemoved, true, none, ours, false},
	} {
		r := &Refusal{Code: c.code, Proven: c.proven}
		r.Theirs.Cluster = c.theirs
		if r.isEarly(c.here) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// goodHello returns a hello that is let in, if the proof is right.
func goodHello() Hello {
	return Hello{
		Identity: Identity{Cluster: testCluster, Node: 1, Boot: 1, Name: "n1"}, ClusterName: "test", Expects: 2,
		Purpose: purposeLink, HasSecret: true, Lowest: 1, Highest: 1, nonce: [nonceLen]byte{5},
	}
}

func step(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(body))), body...)
}

// Hellos that are incomplete or impossible are refused as malformed.
func TestHellos(t *testing.T) {
	good := helloBody(new(goodHello()))
	if h, r := parseHello(good); r != nil || h != goodHello() {
		t.Fatal(h, r)
	}
	if h, r := parseHello(append(slices.Clone(good), "what a later version says"...)); r != nil || h != goodHello() {
		t.Error("a longer hello:", r)
	}
	for i := range good {
		if _, r := parseHello(good[:i]); r == nil || r.Code != CodeMalformed {
			t.Errorf("%d bytes: %v", i, r)
		}
	}
	for name, f := range map[string]func(h *Hello){
		"no node":       func(h *Hello) { h.Node = 0 },
		"nobody":        func(h *Hello) { h.Expects = 0 },
		"no nonce":      func(h *Hello) { h.nonce = [nonceLen]byte{} },
		"no name":       func(h *Hello) { h.ClusterName = "" },
		"not UTF-8":     func(h *Hello) { h.ClusterName = "\xff" },
		"label, not":    func(h *Hello) { h.Name = "a\xff" },
		"no purpose":    func(h *Hello) { h.Purpose = 0 },
		"purpose 4":     func(h *Hello) { h.Purpose = 4 },
		"version 0":     func(h *Hello) { h.Lowest = 0 },
		"versions back": func(h *Hello) { h.Lowest, h.Highest = 2, 1 },
	} {
		h := goodHello()
		f(&h)
		if _, r := parseHello(helloBody(&h)); r == nil || r.Code != CodeMalformed {
			t.Errorf("%s: %v", name, r)
		}
	}
	flags := slices.Clone(good)
	flags[1] = 3
	if _, r := parseHello(flags); r == nil {
		t.Error("an unknown flag passes")
	}
	h := goodHello()
	h.Lowest, h.Highest = 2, 3
	if _, r := parseHello(helloBody(&h)); r == nil || r.Code != CodeVersion {
		t.Error("newer versions only:", r)
	}
	h.Lowest = 1
	if _, r := parseHello(helloBody(&h)); r != nil {
		t.Error("newer versions too:", r)
	}
}

// raw is a stranger's connection to node 2 of a network.
func (n *network) raw(t *testing.T) net.Conn {
	t.Helper()
	nc, err := n.dialer("stranger")(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// Strangers' connections are closed in time; strangers that do not speak the protocol are told
// nothing.
func TestStrangers(t *testing.T) {
	t.Parallel()
	hello := append([]byte(magic), step(stepHello, helloBody(new(goodHello())))...)
	blank := append([]byte(magic), step(stepHello, nil)...)
	for name, c := range map[string]struct {
		say  []byte
		hear string // the beginning of what it is told
		late bool   // only when its time is over
	}{
		"silence":              {late: true},
		"half a magic":         {say: []byte(magic[:3]), late: true},
		"a browser":            {say: []byte("GET / HTTP/1.1\r\n\r\n")},
		"TLS":                  {say: []byte("\x16\x03\x01\x02\x00\x01\x00\x01")},
		"half a hello":         {say: hello[:50], late: true},
		"an oversized step":    {say: append([]byte(magic), stepHello, 0x04, 0x01)},
		"a proof at first":     {say: append([]byte(magic), step(stepProof, make([]byte, macLen))...)},
		"an empty hello":       {say: blank, hear: magic + "\x03"},
		"a hello, and no more": {say: hello, hear: magic + "\x01", late: true},
		"an empty proof":       {say: append(slices.Clone(hello), step(stepProof, nil)...), hear: magic + "\x01"},
		"a short proof":        {say: append(slices.Clone(hello), step(stepProof, make([]byte, 31))...), hear: magic + "\x01"},
		"a wrong proof":        {say: append(slices.Clone(hello), step(stepProof, make([]byte, macLen))...), hear: magic + "\x01"},
		"frames for a proof":   {say: append(slices.Clone(hello), frames("1x")[0]...), hear: magic + "\x01"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				b := n.start(t, 2)
				b.SetPeer(1, nil)
				nc := n.raw(t)
				began := time.Now()
				go func() { _, _ = nc.Write(c.say) }()
				heard, _ := io.ReadAll(nc)
				if took := time.Since(began); (took >= HandshakeTime) != c.late || took > HandshakeTime {
					t.Errorf("closed after %s", took)
				}
				if !strings.HasPrefix(string(heard), c.hear) || (c.hear == "") != (len(heard) == 0) {
					t.Errorf("it is told %q", heard)
				}
				synctest.Wait()
				s := b.Stats()
				if refused := s.Refused[CodeMalformed] + s.Refused[CodeProof]; s.Strangers+refused != 1 || s.HalfOpen != 0 {
					t.Errorf("%+v", s)
				}
				if len(b.told)+len(b.msgs)+len(b.forwards) > 0 {
					t.Error("something came to the handler")
				}
				_ = nc.Close()
				b.stop()
				if b.logs.count("stranger") != 1 {
					t.Error(b.logs.b.String())
				}
			})
		})
	}
}

// An overheard handshake is useless a second time, and what a node says cannot be reflected back to it.
func TestReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var d detour
		a, b := n.start(t, 1, d.config), n.start(t, 2)
		b.SetPeer(1, nil)
		var heard bytes.Buffer
		d.set(func(nc net.Conn) net.Conn { return tap{nc, &heard} })
		a.SetPeer(2, []string{"n2"})
		time.Sleep(100 * time.Millisecond)
		a.stop()
		if heard.Len() == 0 || len(a.told) == 0 {
			t.Fatal("no link")
		}
		nc := n.raw(t)
		go func() { _, _ = nc.Write(heard.Bytes()) }()
		_, _ = io.ReadAll(nc)
		synctest.Wait()
		if s := b.Stats(); s.Refused[CodeProof] != 1 {
			t.Errorf("%+v", s)
		}

		// The mirror sends to b what b has sent to it.
		mirror := n.listen("mirror")
		b.SetPeer(9, []string{"mirror"})
		nc2, err := mirror.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(nc2, nc2) }()
		time.Sleep(100 * time.Millisecond)
		b.stop()
		_ = mirror.Close()
		_ = nc2.Close()
		if len(b.told) > 0 || b.Stats().Refused[CodeMalformed] == 0 {
			t.Errorf("%v %+v", b.told, b.Stats())
		}
	})
}

type tap struct {
	net.Conn
	heard *bytes.Buffer
}

func (t tap) Write(b []byte) (int, error) {
	t.heard.Write(b)
	return t.Conn.Write(b)
}

// A host that opens connections and says nothing takes no more than its share, and none of the
// others'.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1), n.start(t, 2)
		b.SetPeer(1, nil)
		var open []net.Conn
		for i := range 10 * MaxHalfOpen {
			nc, err := n.dialer(fmt.Sprintf("host%d", i%3))(t.Context(), "n2")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, nc)
		}
		synctest.Wait()
		if s := b.Stats(); s.HalfOpen != 3*MaxHalfOpenAddr || s.Crowded != 10*MaxHalfOpen-3*MaxHalfOpenAddr {
			t.Errorf("%+v", s)
		}
		a.SetPeer(2, []string{"n2"})
		time.Sleep(time.Millisecond)
		if a.lastTold() == "" {
			t.Error("a peer cannot come in")
		}
		for i := range MaxHalfOpen {
			nc, err := n.dialer(fmt.Sprintf("other%d", i))(t.Context(), "n2")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, nc)
		}
		synctest.Wait()
		if s := b.Stats(); s.HalfOpen != MaxHalfOpen {
			t.Errorf("%+v", s)
		}
		time.Sleep(HandshakeTime)
		synctest.Wait()
		if s := b.Stats(); s.HalfOpen != 0 {
			t.Errorf("%+v", s)
		}
		if n := b.logs.count("without a handshake"); n != 1 {
			t.Errorf("%d lines", n)
		}
		for _, nc := range open {
			_ = nc.Close()
		}
		a.stop()
		b.stop()
	})
}

// A secret is not required, but its absence is logged.
func TestNoSecret(t *testing.T) {
	t.Parallel()
	a, _ := pair(t, func(c *Config) { c.Secret = nil })
	if a.logs.count("no secret") != 1 {
		t.Error("nothing says so")
	}
}

// authority makes certificates for nodes.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(nil, c, c, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) node(t *testing.T, id uint64) *tls.Config {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour),
		URIs:        []*url.URL{{Scheme: "coord", Opaque: fmt.Sprint(id)}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(nil, c, a.cert, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool, ClientCAs: a.pool}
}

func certified(cs tls.ConnectionState, h Hello) error {
	for _, u := range cs.PeerCertificates[0].URIs {
		if u.Opaque == fmt.Sprint(h.Node) {
			return nil
		}
	}
	return errors.New("the certificate is of another node")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	for name, c := range map[string]struct {
		a, b *tls.Config
		up   bool
		code Code
	}{
		"good":                      {a: ca.node(t, 1), b: ca.node(t, 2), up: true},
		"another node's, dialling":  {a: ca.node(t, 3), b: ca.node(t, 2), code: CodeCertificate},
		"another node's, accepting": {a: ca.node(t, 1), b: ca.node(t, 3), code: CodeCertificate},
		"a foreign one, dialling":   {a: other.node(t, 1), b: ca.node(t, 2)},
		"a foreign one, accepting":  {a: ca.node(t, 1), b: other.node(t, 2)},
		"none":                      {a: &tls.Config{RootCAs: ca.pool, ClientCAs: ca.pool}, b: ca.node(t, 2)},
		"no TLS here":               {a: nil, b: ca.node(t, 2)},
		"no TLS there":              {a: ca.node(t, 1), b: nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ns []*node
			for i, tc := range []*tls.Config{c.a, c.b} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				ns = append(ns, run(t, Config{Self: Identity{Cluster: testCluster, Node: uint64(i + 1), Boot: 1}, Listen: l, TLS: tc, Certified: certified}))
			}
			a, b := ns[0], ns[1]
			b.SetPeer(1, nil)
			a.SetPeer(2, []string{b.addr})
			if c.up {
				eventually(t, func() bool { return a.lastTold() != "" })
				a.Links.Forward(2, 1, []byte("x"))
				eventually(t, func() bool { _, n := b.count(); return n == 1 })
				return
			}
			eventually(t, func() bool { return a.logs.count("retrying") > 0 && (c.code == 0 || a.refusal().Code != 0) })
			a.stop()
			b.stop()
			if len(a.told) > 0 {
				// With TLS 1.3 a dialer learns late that it is not let in, but it must have proved nothing and learned
				// nothing by then.
				t.Error(a.told)
			}
			if c.code != 0 && (len(a.refusals) == 0 || a.refusals[0].Code != c.code) {
				t.Error(a.refusals)
			}
		})
	}
	cfg := Config{Self: Identity{Node: 1}, ClusterName: "x", Handler: &recorder{}, Position: func() (uint64, uint64) { return 0, 0 }, TLS: ca.node(t, 1)}
	if _, err := New(cfg); err == nil {
		t.Error("TLS without Certified passes")
	}
	for _, take := range []func(c *tls.Config){func(c *tls.Config) { c.RootCAs = nil }, func(c *tls.Config) { c.ClientCAs = nil }} {
		cfg.TLS, cfg.Certified = ca.node(t, 1), certified
		if _, err := New(cfg); err != nil {
			t.Error(err)
		}
		if take(cfg.TLS); cfg.Validate() == nil {
			t.Error("TLS with the system's authorities passes")
		}
	}
}

// TestLongestNames: a name may have 255 bytes, the most that its length byte can count.
func TestLongestNames(t *testing.T) {
	t.Parallel()
	h := goodHello()
	h.ClusterName, h.Name = strings.Repeat("c", 255), strings.Repeat("n", 255)
	if got, r := parseHello(helloBody(&h)); r != nil || got != h {
		t.Errorf("%+v, %v", got, r)
	}
}
