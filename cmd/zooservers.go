package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coord/server"
)

// zooServers are the server.N lines of a zoo.cfg, and its other keys about ensembles.
// The file myid in the data folder says which line is this node's.
type zooServers struct {
	all         []zooServer
	peerType    string // participant or observer; empty: not given
	distributed bool   // standaloneEnabled=false: even a node that is alone is a member of an ensemble
	tls         bool   // sslQuorum
	syncLimit   int    // in ticks of tickTime; 0: not given
	listen      string // the address that clientPort decides
}

// zooServer is a server.N line.
type zooServer struct {
	id         uint64
	host       string
	peer       string // the first port, in ZooKeeper the quorum's
	gossip     int    // the second port, in ZooKeeper that of elections
	isObserver bool
	listen     string // for clients; empty: not given
}

const zooServerForm = "expected host:PEER:GOSSIP[:participant|:observer][;[address:]clientPort]"

// add parses a server.N line.
func (z *zooServers) add(key, value string) error {
	id, err := strconv.ParseUint(key[strings.LastIndexByte(key, '.')+1:], 10, 63)
	if err != nil {
		return fmt.Errorf("expected the number of a server after the dot")
	}
	for _, other := range z.all {
		if other.id == id {
			return fmt.Errorf("there is a server %d already", id)
		}
	}
	if strings.Contains(value, "|") {
		return fmt.Errorf("several addresses of one server are not supported: give its host name, and coord tries all its addresses")
	}
	server, client, _ := strings.Cut(value, ";")
	host, fields, ok := hostFields(strings.TrimSpace(server))
	if !ok || len(fields) < 2 || len(fields) > 3 {
		return errors.New(zooServerForm)
	}
	s := zooServer{id: id, host: host, peer: fields[0]}
	if _, err := portNumber(s.peer); err != nil {
		return err
	}
	if s.gossip, err = portNumber(fields[1]); err != nil {
		return err
	}
	if len(fields) == 3 {
		if s.isObserver, err = zooPeerType(fields[2]); err != nil {
			return err
		}
	}
	if client = strings.TrimSpace(client); client != "" {
		at := zooListen{port: client}
		if i := strings.LastIndexByte(client, ':'); i >= 0 {
			at.address, at.port = client[:i], client[i+1:]
		}
		if s.listen, err = at.addr(); err != nil {
			return err
		}
	}
	z.all = append(z.all, s)
	return nil
}

func zooPeerType(v string) (isObserver bool, err error) {
	switch strings.ToLower(v) {
	case "observer":
		return true, nil
	case "participant":
		return false, nil
	}
	return false, fmt.Errorf("%s: expected participant or observer", quote(v))
}

// settle turns the lines into options: participants found the ensemble together, as
// with --initial, and observers join it.
func (z *zooServers) settle(o *serverOptions) (warnings []string, err error) {
	e := &o.ensemble
	if z.syncLimit > 0 && !o.given["sync-limit"] {
		e.SyncLimit = time.Duration(z.syncLimit) * o.TickTime
	}
	var founders []server.Founder
	var hosts []string // the founders' gossip addresses
	for _, s := range z.all {
		if !s.isObserver {
			founders = append(founders, server.Founder{Name: s.name(), Addr: net.JoinHostPort(s.host, s.peer), GossipPort: s.gossip})
			hosts = append(hosts, net.JoinHostPort(s.host, strconv.Itoa(s.gossip)))
		}
	}
	switch {
	case len(z.all) == 0:
		e.Observer = e.Observer || z.peerType == "observer" && !o.given["observer"]
		return nil, nil
	case len(founders) == 0:
		return nil, fmt.Errorf("all server.N lines are observers: there would be no voter")
	case len(z.all) == 1 && !z.distributed:
		return []string{"there is only one server.N line: the node is standalone, and opens no ports for other nodes"}, nil
	case len(e.Join)+e.Expect+len(e.Initial) > 0:
		return nil, fmt.Errorf("server.N lines exclude join, expect and initial, which also define the other nodes")
	}
	own, err := z.own(o.DataDir)
	if err != nil {
		return nil, err
	}
	if z.peerType != "" && (z.peerType == "observer") != own.isObserver {
		warnings = append(warnings, fmt.Sprintf("peerType says %s, but the line server.%d says otherwise and takes precedence", z.peerType, own.id))
	}
	switch {
	case own.isObserver:
		e.Observer, e.Join = true, hosts
	case len(founders) > 1:
		e.Initial = founders
	default:
		z.distributed = true // the others, which do not vote, will join it
	}
	if !o.given["name"] {
		o.Name = own.name()
	}
	switch {
	case own.listen == "" || o.given["listen"]:
	case z.listen != "" && z.listen != own.listen && !isPortOf(z.listen, own.listen):
		return nil, fmt.Errorf("clientPort says to listen on %s, but the line server.%d on %s", z.listen, own.id, own.listen)
	default:
		o.Listen = []string{own.listen}
	}
	o.listenAs(e, own.host, own.peer, own.gossip)
	return warnings, nil
}

// isPortOf says whether all has no host, and so means all addresses, and the port of addr.
// As in ZooKeeper, a clientPort alone does not contradict a line that names the address,
// and the line counts.
func isPortOf(all, addr string) bool {
	host, port, err := net.SplitHostPort(all)
	_, other, err2 := net.SplitHostPort(addr)
	return err == nil && err2 == nil && host == "" && port == other
}

func (s *zooServer) name() string { return strconv.FormatUint(s.id, 10) }

// own finds the line of the node with this data folder.
func (z *zooServers) own(dataDir string) (*zooServer, error) {
	file := filepath.Join(dataDir, "myid")
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is missing: it must contain the number N of this node's server.N line", file)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, bare(err))
	}
	line, _, _ := strings.Cut(string(b), "\n")
	id, err := strconv.ParseUint(strings.TrimSpace(line), 10, 63)
	if err != nil {
		return nil, fmt.Errorf("%s: its first line is not a number", file)
	}
	for i := range z.all {
		if z.all[i].id == id {
			return &z.all[i], nil
		}
	}
	return nil, fmt.Errorf("%s says %d, but there is no line server.%d", file, id, id)
}
