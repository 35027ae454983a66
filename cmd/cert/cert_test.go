package cert_test

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/cmd/cert"
)

func parse(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(b)
	if block == nil || len(rest) > 0 {
		t.Fatalf("no PEM, or more than one: %s", b)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A node's certificate is signed by its authority, serves both ends of a
// connection, and names the node and nothing else. An authority that was parsed
// again issues certificates that are just as good.
func TestIssue(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	_, ca, err := cert.New(now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a, err := cert.Parse(ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parse(t, ca.Cert))
	for _, until := range []time.Time{now.Add(time.Minute), now.Add(2 * time.Hour)} {
		pair, err := a.Issue("n1", now, until)
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, pair.Cert)
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := c.Verify(x509.VerifyOptions{Roots: roots, DNSName: "n1", KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(c.DNSNames, []string{"n1"}) || len(c.IPAddresses)+len(c.URIs)+len(c.EmailAddresses) > 0 || c.IsCA {
			t.Errorf("it is of %v %v, an authority: %v", c.DNSNames, c.IPAddresses, c.IsCA)
		}
		want := until
		if until.After(a.NotAfter()) {
			want = a.NotAfter()
		}
		if !c.NotAfter.Equal(want) || !pair.NotAfter.Equal(want) || !c.NotBefore.Equal(now) {
			t.Errorf("from %v to %v (%v), want %v to %v", c.NotBefore, c.NotAfter, pair.NotAfter, now, want)
		}
		if _, err := cert.Parse(pair.Cert, pair.Key); err == nil {
			t.Error("a node's certificate passes for an authority's")
		}
		if _, err := cert.Parse(ca.Cert, pair.Key); err == nil {
			t.Error("another key passes for the authority's")
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"n1": true, "1": true, "Host-7.example_x": true, strings.Repeat("n", cert.MaxName): true,
		"": false, "-n": false, ".n": false, "_n": false, "a/b": false, "a b": false, "ä": false, "a\n": false, strings.Repeat("n", cert.MaxName+1): false,
	} {
		if err := cert.CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	now := time.Now()
	a, _, err := cert.New(now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Issue("a/b", now, now.Add(time.Hour)); err == nil {
		t.Error("issued for a/b")
	}
}
