// Package cert makes the private authority of an ensemble and the certificates of
// its nodes. It reads and writes no files and prints nothing: PEM in, PEM out.
//
// A certificate is bound to a node's name (coord server --name), its only DNS name.
// It contains no addresses: addresses change, and a peer that compares names would
// take an address for another node's name. It is valid for both ends of a
// connection. Keys are ECDSA on P-256, which every TLS 1.3 implementation supports,
// in PKCS #8.
package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxName is the longest name of a node, in bytes: X.509 limits a common name to
// that.
const MaxName = 64

// CheckName says why a node's name cannot be used in a certificate and in the names
// of its files.
func CheckName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("a node's name has 1 to %d bytes", MaxName)
	case strings.Trim(name, letters+"-._") != "" || !strings.Contains(letters, name[:1]):
		return errors.New("a node's name must consist of letters, digits, -, . and _, and begin with a letter or digit")
	}
	return nil
}

// Pair is a certificate and its private key, in PEM.
type Pair struct {
	Cert, Key []byte
	NotAfter  time.Time
}

// Authority issues certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// New makes an authority that is valid in the given span of time.
func New(from, until time.Time) (*Authority, Pair, error) {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	a := &Authority{}
	pair, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "coord authority " + hex.EncodeToString(id[:])}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	if err != nil {
		return nil, Pair{}, err
	}
	a, err = Parse(pair.Cert, pair.Key)
	return a, pair, err
}

// Parse reads an authority, which may have been made elsewhere. If cert holds
// several certificates, the first one is the authority's own.
func Parse(cert, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("not the certificate of an authority")
	}
	return &Authority{pair.Leaf, signer}, nil
}

// NotAfter is when the authority expires, and with it all certificates that it has issued.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Issue makes the certificate of a node. It expires with the authority at the latest.
func (a *Authority) Issue(name string, from, until time.Time) (Pair, error) {
	if err := CheckName(name); err != nil {
		return Pair{}, err
	}
	if until.After(a.cert.NotAfter) {
		until = a.cert.NotAfter
	}
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: until, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// sign makes a key and its certificate. An authority without a certificate yet signs
// its own.
func (a *Authority) sign(c *x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	by, with := a.cert, a.key
	if by == nil {
		by, with = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
	if err != nil {
		return Pair{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{encode("CERTIFICATE", der), encode("PRIVATE KEY", secret), c.NotAfter}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
