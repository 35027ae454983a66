package cmd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"coord/server"
)

// Limits of the cluster's secret.
const (
	maxSecretBytes   = 4 << 10
	shortSecretBytes = 16 // a shorter one can be guessed
)

// settle combines the settings: it decides whether the node belongs to an ensemble,
// and if so, where it listens for the other nodes.
func (o *serverOptions) settle() (warnings []string, err error) {
	if warnings, err = o.zoo.settle(o); err != nil {
		return nil, err
	}
	e := o.ensemble
	asked := o.secretFile != "" || len(e.Secret) > 0 || o.given["peer-listen"] || o.given["gossip-listen"] ||
		len(e.Join)+e.Expect+len(e.Initial) > 0 || e.Observer || o.zoo.distributed
	if !asked {
		if o.given["peer-tls-cert"] || o.given["peer-tls-key"] || o.given["peer-tls-ca"] {
			return nil, fmt.Errorf("TLS between nodes is configured, but this node is standalone: join, expect, initial or secret-file make it a node of an ensemble")
		}
		for _, name := range []string{"advertise", "sync-limit", "raft-tick", "heartbeat-ticks", "election-ticks"} {
			if o.given[name] {
				warnings = append(warnings, name+" has no effect: the node is standalone")
			}
		}
		return warnings, nil
	}
	if o.zoo.tls && e.TLSCert == "" {
		return nil, fmt.Errorf("sslQuorum requires TLS between the nodes: set peer-tls-cert, peer-tls-key and peer-tls-ca")
	}
	for _, f := range e.Initial {
		if host, fields, ok := hostFields(f.Addr); ok && f.Name == o.Name && len(fields) == 1 {
			o.listenAs(&e, host, fields[0], f.GossipPort)
		}
	}
	if o.secretFile != "" {
		if e.Secret, err = readSecret(o.secretFile); err != nil {
			return nil, err
		}
	}
	if n := len(e.Secret); n > 0 && n < shortSecretBytes {
		warnings = append(warnings, fmt.Sprintf("the cluster's secret has only %d bytes: it can be guessed", n))
	}
	o.Ensemble = &e
	return warnings, nil
}

// listenAs makes the node listen on the ports by which the others know it, unless the
// settings say where. It listens on all addresses, since the host's address may
// change, or on loopback if host is a loopback address.
func (o *serverOptions) listenAs(e *server.Ensemble, host, peerPort string, gossipPort int) {
	switch {
	case host == "localhost":
		host = "127.0.0.1"
	case !server.IsLoopback(host):
		host = ""
	}
	_, port, _ := net.SplitHostPort(server.DefaultGossipListen)
	if gossipPort != 0 {
		port = strconv.Itoa(gossipPort)
	}
	if !o.given["peer-listen"] {
		e.PeerListen = net.JoinHostPort(host, peerPort)
	}
	if !o.given["gossip-listen"] {
		e.GossipListen = net.JoinHostPort(host, port)
	}
}

// takeSecret takes the secret from the environment. A file that is named there or on
// the command line has precedence over it; it has precedence over a file that the
// configuration file names.
func (r *run) takeSecret(o *serverOptions) {
	secret := strings.TrimRight(os.Getenv("COORD_SECRET"), "\r\n")
	if secret == "" || r.given("secret-file") || os.Getenv("COORD_SECRET_FILE") != "" {
		return
	}
	o.secretFile, o.ensemble.Secret = "", []byte(secret)
}

// readSecret reads a file with a secret. Like ssh with keys, it refuses a file of the
// user's own that others may read; it does not check files of other owners. Errors
// never contain any of the secret.
func readSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("secret-file %s: %w", file, bare(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("secret-file %s: %w", file, bare(err))
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) == os.Geteuid() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("secret-file %s: other users may read or change it (mode %04o): run chmod 600 on it", file, info.Mode().Perm())
	}
	secret, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return nil, fmt.Errorf("secret-file %s: %w", file, bare(err))
	}
	secret = bytes.TrimRight(secret, "\r\n")
	switch {
	case len(secret) == 0:
		return nil, fmt.Errorf("secret-file %s: it is empty", file)
	case len(secret) > maxSecretBytes:
		return nil, fmt.Errorf("secret-file %s: it is longer than %d bytes", file, maxSecretBytes)
	}
	return secret, nil
}

func setInitial(o *serverOptions, values []string) error {
	o.ensemble.Initial = nil
	for _, v := range values {
		name, addr, named := strings.Cut(v, "=")
		host, fields, ok := hostFields(addr)
		f := server.Founder{Name: name}
		for i, field := range fields {
			port, err := portNumber(field)
			ok = ok && err == nil && i < 2
			if i == 1 {
				f.GossipPort = port
			}
		}
		if !named || !ok || len(fields) == 0 {
			return fmt.Errorf("%s is not NAME=HOST:PEER-PORT, or NAME=HOST:PEER-PORT:GOSSIP-PORT", quote(v))
		}
		f.Addr = net.JoinHostPort(host, fields[0])
		o.ensemble.Initial = append(o.ensemble.Initial, f)
	}
	return nil
}

// hostFields splits HOST:FIELD:FIELD. An IPv6 address is in brackets.
func hostFields(s string) (host string, fields []string, ok bool) {
	rest := ""
	if inside, bracket := strings.CutPrefix(s, "["); bracket {
		if host, rest, ok = strings.Cut(inside, "]"); !ok || rest != "" && rest[0] != ':' {
			return "", nil, false
		}
		rest = strings.TrimPrefix(rest, ":")
	} else {
		host, rest, _ = strings.Cut(s, ":")
	}
	if rest != "" {
		fields = strings.Split(rest, ":")
	}
	return host, fields, host != "" && !slices.Contains(fields, "")
}

// portNumber parses a port, at least 1.
func portNumber(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is not a port from 1 to 65535", quote(v))
	}
	return int(n), nil
}
