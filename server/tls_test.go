package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"

	"coord/cmd/cert"
	"coord/server/peer"
)

// office issues certificates as coord cert does, into files.
type office struct {
	*testing.T
	dir string
	ca  *cert.Authority
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{T: t, dir: t.TempDir()}
	a, pair, err := cert.New(time.Now().Add(-72*time.Hour), time.Now().Add(72*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	o.ca = a
	o.write("ca.crt", pair.Cert)
	return o
}

func (o *office) write(name string, b []byte) string {
	o.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		o.Fatal(err)
	}
	now := time.Now() // file times finer than the file system's clock
	if err := os.Chtimes(path+".new", now, now); err != nil {
		o.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		o.Fatal(err)
	}
	return path
}

// issue makes a node's certificate, valid for an hour, and its files.
func (o *office) issue(name string) *Ensemble {
	return o.between(name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

func (o *office) between(name string, from, until time.Time) *Ensemble {
	o.Helper()
	pair, err := o.ca.Issue(name, from, until)
	if err != nil {
		o.Fatal(err)
	}
	return &Ensemble{TLSCert: o.write(name+".crt", pair.Cert), TLSKey: o.write(name+".key", pair.Key), TLSCA: filepath.Join(o.dir, "ca.crt")}
}

// told is a handler that keeps the forwards it gets and answers requests.
type told struct{ forwards chan string }

func (h told) Raft(uint64, []*raftpb.Message) {}
func (h told) Up(uint64, peer.Hello)          {}
func (h told) Down(uint64, bool)              {}
func (h told) Refused(*peer.Refusal)          {}
func (h told) Snapshot(context.Context, uint64, peer.SnapshotHeader, io.Reader) error {
	return errors.New("none wanted")
}
func (h told) Forward(_ uint64, _ byte, b []byte) {
	select {
	case h.forwards <- string(b):
	default:
	}
}
func (h told) Request(_ context.Context, theirs peer.Hello, body []byte) ([]byte, error) {
	return []byte(theirs.Name + " said " + string(body)), nil
}

// speaker is the running links of a node.
type speaker struct {
	*peer.Links
	heard told
	addr  string
}

// speak starts the links of node id. hear gets the serial numbers of the certificates that are
// shown to the node; hear and change may be nil.
func speak(t *testing.T, id uint64, name string, e *Ensemble, change func(*tls.Config), hear func(serial *big.Int)) *speaker {
	t.Helper()
	named := name
	if other := strings.TrimSuffix(filepath.Base(e.TLSCert), ".crt"); other != name {
		named = other // a node that lies about its name
	}
	conf, certified, err := peerTLS(e, named, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(conf)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &speaker{heard: told{make(chan string, 16)}, addr: l.Addr().String()}
	s.Links, err = peer.New(peer.Config{
		Self: peer.Identity{Cluster: [16]byte{1}, Node: id, Boot: 1, Name: name}, ClusterName: "test", Secret: peer.Secret("s"),
		Listen: l, Handler: s.heard, Position: func() (uint64, uint64) { return 1, 1 }, TLS: conf, Logger: zerolog.Nop(),
		Certified: func(cs tls.ConnectionState, theirs peer.Hello) error {
			if hear != nil {
				hear(cs.PeerCertificates[0].SerialNumber)
			}
			return certified(cs, theirs)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// Nodes with certificates of one authority that name them can speak to each other, and no others
// can, whichever node dials.
func TestPeersMeetOverTLS(t *testing.T) {
	t.Parallel()
	ours, foreign := newOffice(t), newOffice(t)
	later := func(c *tls.Config) { c.Time = func() time.Time { return time.Now().Add(2 * time.Hour) } }
	for name, c := range map[string]struct {
		b      *Ensemble // of node n2
		change func(*tls.Config)
		wrong  string // what n1 says when it dials n2; "" if nothing is wrong. The other way is as wrong, but seldom reported
	}{
		"right":   {b: ours.issue("n2")},
		"foreign": {b: foreign.issue("n2"), wrong: "unknown authority"},
		"another": {b: ours.issue("n3"), wrong: `the certificate is for ["n3"], but the node's name is "n2"`},
		// n1's clock is two hours ahead of n2's.
		"expired": {b: ours.issue("n2"), change: later, wrong: "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := speak(t, 1, "n1", ours.issueIn(t, "n1"), c.change, nil), speak(t, 2, "n2", c.b, nil, nil)
			_, got, err := a.Request(t.Context(), b.addr, []byte("x"))
			_, back, backErr := b.Request(t.Context(), a.addr, []byte("x"))
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || backErr == nil {
					t.Errorf("%v, want %s; back: %v", err, c.wrong, backErr)
				}
				return
			}
			if err != nil || string(got) != "n1 said x" || backErr != nil || string(back) != "n2 said x" {
				t.Errorf("%q %v, %q %v", got, err, back, backErr)
			}
			a.SetPeer(2, []string{b.addr})
			b.SetPeer(1, []string{a.addr})
			for heard := false; !heard; {
				a.Forward(2, 1, []byte("y")) // lost while the link is not up
				select {
				case s := <-b.heard.forwards:
					if heard = true; s != "y" {
						t.Errorf("heard %q", s)
					}
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
}

// issueIn is issue into a folder of its own, by the same authority.
func (o *office) issueIn(t *testing.T, name string) *Ensemble {
	t.Helper()
	c := &office{T: t, dir: t.TempDir(), ca: o.ca}
	b, err := os.ReadFile(filepath.Join(o.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	c.write("ca.crt", b)
	return c.issue(name)
}

// A certificate that is replaced in its files is shown on the next handshake, without a restart.
// While the files are not good, the previous certificate is shown, and the fault is logged once.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	var mu sync.Mutex
	var shown *big.Int
	b := speak(t, 2, "n2", o.issue("n2"), nil, func(serial *big.Int) {
		mu.Lock()
		defer mu.Unlock()
		shown = serial
	})
	a := speak(t, 1, "n1", o.issue("n1"), nil, nil)
	// meet returns the certificates that n1 shows: dialling, and dialled.
	meet := func() (dialling, dialled *big.Int) {
		t.Helper()
		for i, way := range [2][2]*speaker{{a, b}, {b, a}} {
			if _, _, err := way[0].Request(t.Context(), way[1].addr, nil); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			*[]**big.Int{&dialling, &dialled}[i] = shown
			mu.Unlock()
		}
		return dialling, dialled
	}
	first, also := meet()
	if first.Cmp(also) != 0 {
		t.Errorf("shown: %v and %v", first, also)
	}
	o.issue("n1")
	second, also := meet()
	if second.Cmp(first) == 0 || also.Cmp(second) != 0 {
		t.Errorf("renewed, shown are %v and %v; before %v", second, also, first)
	}
	// While the key cannot be read, the previous certificate is shown.
	o.write("n1.key", []byte("no key"))
	if x, y := meet(); x.Cmp(second) != 0 || y.Cmp(second) != 0 {
		t.Errorf("with a bad key shown are %v and %v, want %v", x, y, second)
	}
	o.issue("n1")
	if x, y := meet(); x.Cmp(second) == 0 || y.Cmp(x) != 0 {
		t.Errorf("good again, shown are %v and %v; before %v", x, y, second)
	}
}

func TestReplacedByABadCertificate(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	e := o.issue("n1")
	var log bytes.Buffer
	conf, _, err := peerTLS(e, "n1", zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		c, err := conf.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	was := shown()
	if log.Len() > 0 && !strings.Contains(log.String(), "expires soon") {
		t.Error(log.String())
	}
	for name, bad := range map[string]func(){
		"ended":          func() { o.between("n1", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)) },
		"another node's": func() { other := o.issueIn(t, "n2"); o.take(other.TLSCert, "n1.crt"); o.take(other.TLSKey, "n1.key") },
		"another's CA's": func() {
			other := newOffice(t).issue("n1")
			o.take(other.TLSCert, "n1.crt")
			o.take(other.TLSKey, "n1.key")
		},
		"half": func() { o.take(o.issueIn(t, "n1").TLSCert, "n1.crt") },
		"none": func() { _ = os.Remove(e.TLSKey) },
	} {
		bad()
		log.Reset()
		for range 3 {
			if shown() != was {
				t.Errorf("%s: shown is another one", name)
			}
		}
		if n := strings.Count(log.String(), "the new certificate for peers is not valid"); n != 1 {
			t.Errorf("%s: said %d times: %s", name, n, log.String())
		}
	}
	o.issue("n1")
	if shown() == was {
		t.Error("a good one is not shown")
	}
}

func (o *office) take(from, name string) {
	o.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		o.Fatal(err)
	}
	o.write(name, b)
}

// An error in the files is reported at the start, with the name of the flag.
func TestPeerTLSRefuses(t *testing.T) {
	t.Parallel()
	o, foreign := newOffice(t), newOffice(t)
	good := o.issue("n1")
	other := foreign.issue("n1")
	junk := o.write("junk", []byte("no PEM"))
	closed := o.write("closed", nil)
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Ensemble)
		want   string
		kind   error
	}{
		"no certificate":    {func(e *Ensemble) { e.TLSCert = filepath.Join(o.dir, "none") }, "--peer-tls-cert", ErrConfig},
		"no key":            {func(e *Ensemble) { e.TLSKey = filepath.Join(o.dir, "none") }, "--peer-tls-key", ErrConfig},
		"no authority":      {func(e *Ensemble) { e.TLSCA = filepath.Join(o.dir, "none") }, "--peer-tls-ca", ErrConfig},
		"closed key":        {func(e *Ensemble) { e.TLSKey = closed }, "--peer-tls-key", ErrPermitted},
		"junk certificate":  {func(e *Ensemble) { e.TLSCert = junk }, "--peer-tls-cert " + junk, ErrConfig},
		"junk authority":    {func(e *Ensemble) { e.TLSCA = junk }, "--peer-tls-ca: there is no certificate in " + junk, ErrConfig},
		"key of another":    {func(e *Ensemble) { e.TLSKey = other.TLSKey }, "private key does not match", ErrConfig},
		"another authority": {func(e *Ensemble) { e.TLSCA = other.TLSCA }, "unknown authority", ErrConfig},
		"another's name":    {func(e *Ensemble) { *e = *o.issueIn(t, "n2") }, `the certificate is for ["n2"], but the node's name is "n1"`, ErrConfig},
		"ended": {func(e *Ensemble) {
			*e = *o.issueIn(t, "n1")
			c := &office{T: t, dir: filepath.Dir(e.TLSCert), ca: o.ca}
			c.between("n1", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		}, "the certificate expired on", ErrConfig},
	} {
		if name == "closed key" && os.Geteuid() == 0 {
			continue // root may read everything
		}
		e := *good
		c.change(&e)
		if _, _, err := peerTLS(&e, "n1", zerolog.Nop()); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, none := range []*Ensemble{nil, {}} {
		if conf, certified, err := peerTLS(none, "n1", zerolog.Nop()); conf != nil || certified != nil || err != nil {
			t.Errorf("%+v: %v %v", none, conf, err)
		}
	}
	// The clock may be behind: handshakes decide whether the certificate is valid.
	e := *o.issueIn(t, "n1")
	c := &office{T: t, dir: filepath.Dir(e.TLSCert), ca: o.ca}
	c.between("n1", time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	var log bytes.Buffer
	if _, _, err := peerTLS(&e, "n1", zerolog.New(&log)); err != nil || !strings.Contains(log.String(), "check the clock") {
		t.Errorf("not valid yet: %v, %s", err, log.String())
	}
	for _, some := range []Ensemble{{TLSCert: "x"}, {TLSKey: "x"}, {TLSCA: "x", TLSKey: "x"}} {
		cfg := DefaultConfig()
		cfg.Ensemble = &some
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "missing: --peer-tls-") {
			t.Errorf("%+v: %v", some, err)
		}
	}
}
