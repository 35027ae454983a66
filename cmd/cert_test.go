package cmd

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/cmd/cert"
)

// filesIn are the names and modes of the files in a folder.
func filesIn(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %o", e.Name(), info.Mode().Perm()))
	}
	return all
}

// leafOf is the certificate of a node in a folder. It must match its key and be
// signed by the folder's authority.
func leafOf(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return pair.Leaf
}

// TestCert: one command makes an authority and certificates; a later one makes more
// of the same authority; an existing certificate is replaced only on request.
func TestCert(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	before := time.Now()
	got := coord(t, "", "cert", "--dir", dir, "n1", "n2")
	if got.code != exitOK || !strings.Contains(got.out, "authority  "+dir+"/ca.crt, "+dir+"/ca.key: created, until ") ||
		!strings.Contains(got.out, "node n2    "+dir+"/n2.crt, "+dir+"/n2.key: created, until ") ||
		!strings.Contains(got.out, "coord server --name n1 --peer-tls-cert "+dir+"/n1.crt --peer-tls-key "+dir+"/n1.key --peer-tls-ca "+dir+"/ca.crt …\n") ||
		!strings.Contains(got.errOut, "ca.key away from the nodes") {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v %v", info, err)
	}
	want := []string{"ca.crt 644", "ca.key 600", "n1.crt 644", "n1.key 600", "n2.crt 644", "n2.key 600"}
	if files := filesIn(t, dir); !slices.Equal(files, want) {
		t.Errorf("files %v", files)
	}
	first := leafOf(t, dir, "n1")
	if first.NotBefore.After(time.Now().Add(-certEarly)) || first.NotAfter.Before(before.AddDate(0, 0, nodeDays).Truncate(time.Second)) || first.NotAfter.After(time.Now().AddDate(0, 0, nodeDays)) {
		t.Errorf("from %v to %v", first.NotBefore, first.NotAfter)
	}

	if got = coord(t, "", "cert", "--dir", dir, "n3", "n1"); got.code != exitUnsafe || !strings.Contains(got.errOut, "n1.key exists already") || !strings.Contains(got.errOut, "--force") {
		t.Errorf("an existing one: %+v", got)
	}
	if files := filesIn(t, dir); !slices.Equal(files, want) || !leafOf(t, dir, "n1").Equal(first) {
		t.Errorf("refused, and something was changed: %v", files)
	}
	if got = coord(t, "", "cert", "--dir", dir, "--force", "--days", "1", "n1", "n3"); got.code != exitOK || !strings.Contains(got.out, "ca.key: unchanged, until") {
		t.Errorf("anew: %+v", got)
	}
	if again := leafOf(t, dir, "n1"); again.Equal(first) || again.NotAfter.After(time.Now().AddDate(0, 0, 1)) {
		t.Errorf("anew, until %v", again.NotAfter)
	}
	leafOf(t, dir, "n2")
	leafOf(t, dir, "n3")
	if files := filesIn(t, dir); !slices.Equal(files, append(want, "n3.crt 644", "n3.key 600")) {
		t.Errorf("files %v", files)
	}

	t.Chdir(t.TempDir())
	got = coord(t, "", "cert", "--json", "--days", "5000", "n1")
	var made jsonCerts
	if err := json.Unmarshal([]byte(got.out), &made); err != nil || got.code != exitOK {
		t.Fatalf("%v: %+v", err, got)
	}
	end := dateOf(leafOf(t, ".", "n1").NotAfter)
	wanted := jsonCerts{V: 1, Authority: jsonCert{Cert: "ca.crt", Key: "ca.key", NotAfter: end, Made: true},
		Nodes: []jsonCert{{Name: "n1", Cert: "n1.crt", Key: "n1.key", NotAfter: end, Made: true}}}
	if fmt.Sprint(made) != fmt.Sprint(wanted) {
		t.Errorf("%+v, want %+v", made, wanted)
	}
}

// TestCertRefuses: impossible requests are refused, and leave nothing behind.
func TestCertRefuses(t *testing.T) {
	now := time.Now()
	authority := func(until time.Time) map[string][]byte {
		_, pair, err := cert.New(now.Add(-time.Hour), until)
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{"ca.crt": pair.Cert, "ca.key": pair.Key}
	}
	good, other := authority(now.Add(time.Hour)), authority(now.Add(time.Hour))
	for _, tt := range []struct {
		files map[string][]byte
		args  string
		code  int
		text  string
	}{
		{nil, "", exitUsage, "an argument is missing"},
		{nil, "ca", exitUsage, "this name is reserved for the authority's files"},
		{nil, "n1 a/b", exitUsage, `"a/b": a node's name must consist of`},
		{nil, "n1 n2 n1", exitUsage, "n1 is given twice"},
		{nil, "--days 0 n1", exitUsage, "--days: expected 1 to 36500"},
		{nil, "--days 36501 n1", exitUsage, "--days: expected 1 to 36500"},
		{map[string][]byte{"ca.crt": good["ca.crt"]}, "n1", exitNotFound, "ca.key: no such file"},
		{map[string][]byte{"ca.key": good["ca.key"]}, "n1", exitNotFound, "ca.crt: no such file"},
		{map[string][]byte{"ca.crt": []byte("x"), "ca.key": good["ca.key"]}, "n1", exitUsage, "ca.crt and "},
		{map[string][]byte{"ca.crt": good["ca.crt"], "ca.key": other["ca.key"]}, "n1", exitUsage, "private key does not match"},
		{authority(now.Add(-time.Minute)), "n1", exitUsage, "the authority expired on"},
		{map[string][]byte{"n1.crt": nil}, "n1", exitUnsafe, "n1.crt exists already"},
		{map[string][]byte{"n1.key": nil}, "n1", exitUnsafe, "n1.key exists already"},
	} {
		dir := t.TempDir()
		for name, b := range tt.files {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := filesIn(t, dir)
		got := coord(t, "", append([]string{"cert", "--dir", dir}, strings.Fields(tt.args)...)...)
		if got.code != tt.code || got.out != "" || !strings.Contains(got.errOut, tt.text) {
			t.Errorf("cert %s: %+v", tt.args, got)
		}
		if after := filesIn(t, dir); !slices.Equal(after, before) {
			t.Errorf("cert %s: left are %v", tt.args, after)
		}
	}
	// A node's certificate does not outlive the authority.
	dir := t.TempDir()
	for name, b := range good {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := coord(t, "", "cert", "--dir", dir, "n1"); got.code != exitOK || leafOf(t, dir, "n1").NotAfter.After(now.Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "ca.key")); err != nil || !bytes.Equal(b, good["ca.key"]) {
		t.Errorf("the authority's key was changed: %v", err)
	}
}
