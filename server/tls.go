package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"coord/server/peer"
)

// soonEnds is how long before its end a certificate causes a warning, at the start and each time it
// is read again.
const soonEnds = 30 * 24 * time.Hour

// checkTLS refuses a configuration that names only some of the files for TLS between peers.
func (e *Ensemble) checkTLS() error {
	var missing []string
	for _, f := range []struct{ name, value string }{{"--peer-tls-cert", e.TLSCert}, {"--peer-tls-key", e.TLSKey}, {"--peer-tls-ca", e.TLSCA}} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if len(missing) == 1 || len(missing) == 2 {
		return fmt.Errorf("TLS between peers needs a certificate, its key and the authority; missing: %s", strings.Join(missing, " and "))
	}
	return nil
}

// peerTLS returns what peer.Config needs for TLS between nodes: both sides show a certificate of
// the authority, and it names the node that the hello names. All results are nil if no files are
// configured. name is this node's own; its certificate must be valid now, else the error is
// ErrConfig or ErrPermitted. The authority is read once. The certificate and the key are read again
// by any handshake that finds changed files.
func peerTLS(e *Ensemble, name string, log zerolog.Logger) (*tls.Config, func(tls.ConnectionState, peer.Hello) error, error) {
	if e == nil || e.TLSCert == "" {
		return nil, nil, nil
	}
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(e.TLSCA)
	if err != nil {
		return nil, nil, fileError("--peer-tls-ca", err)
	}
	if !roots.AppendCertsFromPEM(ca) {
		return nil, nil, fmt.Errorf("%w: --peer-tls-ca: there is no certificate in %s", ErrConfig, e.TLSCA)
	}
	own := &ownCertificate{files: [2]string{e.TLSCert, e.TLSKey}, name: name, roots: roots, log: log}
	if err := own.read(time.Now()); err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ClientCAs: roots,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.current(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.current(), nil },
	}, certified, nil
}

// fileError wraps an error about a file that a flag names.
func fileError(flag string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %s: %w", ErrPermitted, flag, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrConfig, flag, err)
}

// certified checks that a certificate names the node that sent the hello.
func certified(cs tls.ConnectionState, theirs peer.Hello) error {
	names := cs.PeerCertificates[0].DNSNames
	if slices.Contains(names, theirs.Name) {
		return nil
	}
	return fmt.Errorf("the certificate is for %q, but the node's name is %q", names, theirs.Name)
}

// pairFlags are the flags that name ownCertificate's files, in the same order.
var pairFlags = [2]string{"--peer-tls-cert", "--peer-tls-key"}

// ownCertificate is the certificate that this node shows to its peers. Any goroutine may ask for
// it.
type ownCertificate struct {
	files [2]string // certificate, key
	name  string    // this node's
	roots *x509.CertPool
	log   zerolog.Logger

	mu struct {
		sync.Mutex
		pair    *tls.Certificate
		of      [2]fs.FileInfo // the files as they were when pair was read
		refused [2]fs.FileInfo // the files as they were when they were last reported as wrong
	}
}

// current is the certificate in the files or, while the files are not good, the previous one: an
// operator replaces the files one at a time.
func (o *ownCertificate) current() *tls.Certificate {
	if err := o.read(time.Now()); err != nil {
		o.log.Error().Err(err).Msg("the new certificate for peers is not valid: the previous one is still used")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.pair
}

// read reads the files if they have changed. Once there is a certificate, a fault in the same files
// is reported only once.
func (o *ownCertificate) read(now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found [2]fs.FileInfo
	refuse := func(err error) error {
		if o.mu.pair != nil && sameFiles(found, o.mu.refused) {
			return nil
		}
		o.mu.refused = found
		return err
	}
	var err error
	for i, file := range o.files {
		if found[i], err = os.Stat(file); err != nil {
			return refuse(fileError(pairFlags[i], err))
		}
	}
	if sameFiles(found, o.mu.of) {
		return nil
	}
	var text [2][]byte
	for i, file := range o.files {
		if text[i], err = os.ReadFile(file); err != nil {
			return refuse(fileError(pairFlags[i], err))
		}
	}
	pair, err := tls.X509KeyPair(text[0], text[1])
	if err == nil {
		err = o.check(&pair, now)
	}
	if err != nil {
		return refuse(fmt.Errorf("%w: %s %s, %s %s: %w", ErrConfig, pairFlags[0], o.files[0], pairFlags[1], o.files[1], err))
	}
	if end := pair.Leaf.NotAfter; end.Before(now.Add(soonEnds)) {
		o.log.Warn().Str("path", o.files[0]).Time("end", end).Msg("the certificate for peers expires soon: renew it with coord cert --force; no restart is needed")
	}
	if o.mu.pair != nil {
		o.log.Info().Str("path", o.files[0]).Time("end", pair.Leaf.NotAfter).Msg("new certificate for peers loaded")
	}
	o.mu.pair, o.mu.of, o.mu.refused = &pair, found, [2]fs.FileInfo{}
	return nil
}

// check says why this node's peers would not accept a pair. A certificate whose time has not begun
// yet is accepted: the clock of a host that has just started may be behind, and each handshake
// checks the time again.
func (o *ownCertificate) check(pair *tls.Certificate, now time.Time) error {
	leaf := pair.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate expired on %s", leaf.NotAfter.UTC().Format(time.DateTime))
	case !slices.Contains(leaf.DNSNames, o.name):
		return fmt.Errorf("the certificate is for %q, but the node's name is %q (--name)", leaf.DNSNames, o.name)
	case now.Before(leaf.NotBefore):
		o.log.Warn().Str("path", o.files[0]).Time("begin", leaf.NotBefore).Msg("the certificate for peers is not valid yet: check the clock")
		now = leaf.NotBefore
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} { // a node both dials and is dialled
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: o.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			return err
		}
	}
	return nil
}

// sameFiles says whether two sets of files are unchanged: same files, sizes and times.
func sameFiles(a, b [2]fs.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
		} else if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}
