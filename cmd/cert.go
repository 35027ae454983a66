package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/cmd/cert"
)

// The names of the authority's files; a node's files have the node's name.
const (
	authority = "ca"
	certEnd   = ".crt"
	keyEnd    = ".key"
)

const (
	nodeDays      = 1825
	authorityDays = 3650 // unless a node's certificate is to be valid for longer
	mostDays      = 36500
	// certEarly is how long before its creation a certificate becomes valid: the clocks
	// of small hosts are behind until the network is up.
	certEarly = 24 * time.Hour
)

func certCommand() *command {
	return &command{
		name: "cert", args: "NAME…", does: "make a private authority and the certificates of nodes", min: 1, max: -1,
		details: `For each NAME, as in coord server --name, this makes NAME.crt and NAME.key, signed by the authority in ca.crt and
ca.key, which is made too if it does not exist. With these files the nodes of an ensemble encrypt their traffic
and let in nobody else: --peer-tls-cert, --peer-tls-key and --peer-tls-ca of coord server.
Give each node its own two files and ca.crt. Whoever has ca.key can make a certificate for any name: keep it elsewhere.
To renew a certificate, make it again with --force and replace the old files: a running server reads the new ones.`,
		examples: []string{"coord cert n1 n2 n3", "coord cert --dir /root/coord-ca n4", "coord cert --force --days 365 n1"},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "the folder `DIR` of the files, created if it is missing", Value: ".", DefaultText: "the working directory"},
			&cli.IntFlag{Name: "days", Usage: "the nodes' certificates are valid for `N` days, and no longer than the authority's", Value: nodeDays},
			boolFlag("force", "replace existing certificates of nodes"),
		},
		run: runCert,
	}
}

// jsonCerts is the answer of coord cert.
type jsonCerts struct {
	V         int        `json:"v"`
	Authority jsonCert   `json:"authority"`
	Nodes     []jsonCert `json:"nodes"`
}

type jsonCert struct {
	Name     string `json:"name,omitempty"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	NotAfter string `json:"not_after"`
	Made     bool   `json:"made"`
}

func runCert(_ context.Context, r *run) error {
	dir, days, force := r.flags.String("dir"), r.flags.Int("days"), r.flags.Bool("force")
	if days < 1 || days > mostDays {
		return usagef("--days: expected 1 to %d", mostDays)
	}
	for i, name := range r.args {
		switch err := cert.CheckName(name); {
		case err != nil:
			return usagef("%s: %v", quote(name), err)
		case name == authority:
			return usagef("%s: this name is reserved for the authority's files", name)
		case slices.Contains(r.args[:i], name):
			return usagef("%s is given twice", name)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	w := pairWriter{dir: dir}
	defer w.discard()
	now := time.Now()
	from, until := now.Add(-certEarly), now.AddDate(0, 0, days)
	ca, of, err := w.authority(from, now.AddDate(0, 0, max(authorityDays, days)))
	if err != nil {
		return err
	}
	if !ca.NotAfter().After(now) {
		return &usageError{msg: of.Cert + ": the authority expired on " + dateOf(ca.NotAfter()), hint: "create another one with --dir DIR"}
	}
	made := jsonCerts{V: schema, Authority: of, Nodes: []jsonCert{}}
	for _, name := range r.args {
		pair, err := ca.Issue(name, from, until)
		if err != nil {
			return err
		}
		of, err := w.add(name, pair, force)
		if err != nil {
			return err
		}
		made.Nodes = append(made.Nodes, of)
	}
	if err := w.publish(); err != nil {
		return err
	}
	r.madeCerts(made)
	return nil
}

func (r *run) madeCerts(made jsonCerts) {
	if r.json {
		r.object(made)
		return
	}
	row := func(what string, c jsonCert) client.Fact {
		verb := "created"
		if !c.Made {
			verb = "unchanged"
		}
		return client.Fact{Name: what, Value: fmt.Sprintf("%s, %s: %s, until %s", c.Cert, c.Key, verb, c.NotAfter)}
	}
	rows := []client.Fact{row("authority", made.Authority)}
	for _, c := range made.Nodes {
		rows = append(rows, row("node "+c.Name, c))
	}
	first := made.Nodes[0]
	r.table(append(rows, client.Fact{Name: "next", Value: fmt.Sprintf("coord server --name %s --peer-tls-cert %s --peer-tls-key %s --peer-tls-ca %s …",
		first.Name, shellWord(first.Cert), shellWord(first.Key), shellWord(made.Authority.Cert))}))
	r.note("coord: a node needs its own two files and %s; keep %s away from the nodes", made.Authority.Cert, made.Authority.Key)
}

func dateOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// pairWriter writes pairs of keys and certificates into a folder. No file gets its
// name before all of them are on disk.
type pairWriter struct {
	dir   string
	parts []*part // a key before its certificate
}

// authority reads the folder's authority, or makes a new one.
func (w *pairWriter) authority(from, until time.Time) (*cert.Authority, jsonCert, error) {
	of := w.named(authority, until)
	certPEM, certErr := os.ReadFile(of.Cert)
	keyPEM, keyErr := os.ReadFile(of.Key)
	noCert, noKey := errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist)
	switch {
	case noCert && noKey:
		a, pair, err := cert.New(from, until)
		if err == nil {
			of, err = w.add(authority, pair, false)
		}
		return a, of, err
	case noCert || noKey:
		return nil, of, &hinted{errors.Join(certErr, keyErr), "an authority needs both files: restore the missing one, or create another authority with --dir DIR"}
	case certErr != nil || keyErr != nil:
		return nil, of, errors.Join(certErr, keyErr)
	}
	a, err := cert.Parse(certPEM, keyPEM)
	if err != nil {
		return nil, of, usagef("%s and %s: %v", of.Cert, of.Key, err)
	}
	of.NotAfter, of.Made = dateOf(a.NotAfter()), false
	return a, of, nil
}

// named describes the pair of this name.
func (w *pairWriter) named(name string, until time.Time) jsonCert {
	c := jsonCert{Name: name, Cert: filepath.Join(w.dir, name+certEnd), Key: filepath.Join(w.dir, name+keyEnd), NotAfter: dateOf(until), Made: true}
	if name == authority {
		c.Name = ""
	}
	return c
}

// add writes a pair under temporary names.
func (w *pairWriter) add(name string, pair cert.Pair, force bool) (jsonCert, error) {
	of := w.named(name, pair.NotAfter)
	for _, x := range []struct {
		file string
		b    []byte
		mode os.FileMode
	}{{of.Key, pair.Key, 0o600}, {of.Cert, pair.Cert, 0o644}} {
		p, err := createPart(x.file, force)
		if err != nil {
			return of, err
		}
		w.parts = append(w.parts, p)
		_, err = p.Write(x.b)
		if err = errors.Join(err, p.f.Chmod(x.mode)); err == nil {
			err = p.sync()
		}
		if err != nil {
			return of, err
		}
	}
	return of, nil
}

// publish gives the files their final names.
func (w *pairWriter) publish() error {
	for i, p := range w.parts {
		if err := p.publish(); err != nil {
			if i > 0 {
				return &partError{fmt.Sprintf("%d of %d files were put in place", i, len(w.parts)), err}
			}
			return err
		}
	}
	return nil
}

// discard removes the files that publish has not renamed.
func (w *pairWriter) discard() {
	for _, p := range w.parts {
		p.remove()
	}
}
