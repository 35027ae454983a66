package server

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"coord/server/founding"
	"coord/tree"
	"coord/tree/znode"
)

// roster says who the members are and where they can be found. All nodes have it: it is the data of
// /zookeeper/config, in ZooKeeper's form (QuorumVerifier.toString), where ZooKeeper's clients look for it too:
//
//	server.ID=HOST:PEER-PORT:GOSSIP-PORT:participant;HOST:CLIENT-PORT
//	name.ID=NAME
//	version=HEX
//
// ID is the node's id as a signed decimal number, which ZooKeeper's clients can read; the role is
// observer for a learner that never votes. The leader writes the roster whenever members or their
// addresses have changed. The roster says where to look and decides nothing: the members are those
// of raft's configuration, and gossip knows newer addresses first.
type roster []member

// member is a line of the roster. A port that is not known is 0.
type member struct {
	node                 uint64
	name, host           string
	peer, gossip, client int
	clientHost           string // "" if it is host
	observer             bool
}

// peerAddr is the address at which peers reach the member, "" if it is not known.
func (m *member) peerAddr() string {
	if m.host == "" || m.peer == 0 {
		return ""
	}
	return hostPort(m.host, m.peer)
}

func (m *member) clientAddr() string {
	if m.client == 0 {
		return ""
	}
	return hostPort(cmp.Or(m.clientHost, m.host), m.client)
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func (r roster) find(node uint64) *member {
	if i := slices.IndexFunc(r, func(m member) bool { return m.node == node }); i >= 0 {
		return &r[i]
	}
	return nil
}

// of returns the lines of some nodes in the order of ids, without those that have no line.
func (r roster) of(ids []uint64) (some roster) {
	for _, id := range ids {
		if m := r.find(id); m != nil {
			some = append(some, *m)
		}
	}
	return some
}

func (r roster) names() (names []string) {
	for _, m := range r {
		names = append(names, m.name)
	}
	return names
}

// encode returns the bytes; version counts the changes of the roster.
func (r roster) encode(version uint64) []byte {
	var b []byte
	for _, m := range r {
		role := "participant"
		if m.observer {
			role = "observer"
		}
		b = fmt.Appendf(b, "server.%d=%s:%d:%d:%s", int64(m.node), bracket(m.host), m.peer, m.gossip, role)
		if addr := m.clientAddr(); addr != "" {
			b = fmt.Appendf(b, ";%s", addr)
		}
		b = append(b, '\n')
	}
	for _, m := range r {
		b = fmt.Appendf(b, "name.%d=%s\n", int64(m.node), m.name)
	}
	return fmt.Appendf(b, "version=%x", version)
}

func bracket(host string) string {
	if strings.ContainsRune(host, ':') {
		return "[" + host + "]"
	}
	return host
}

// parseRoster reads what encode wrote. It leaves out what it does not understand: an import from
// ZooKeeper, or an operator, may have put something else there.
func parseRoster(data string) (r roster, version uint64) {
	names := map[uint64]string{}
	for line := range strings.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if key == "version" {
			version, _ = strconv.ParseUint(value, 16, 64)
			continue
		}
		kind, number, _ := strings.Cut(key, ".")
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil || id == 0 {
			continue
		}
		switch kind {
		case "name":
			names[uint64(id)] = value
		case "server":
			if m, ok := parseMember(value); ok {
				m.node = uint64(id)
				r = append(r, m)
			}
		}
	}
	for i := range r {
		r[i].name = names[r[i].node]
	}
	return r, version
}

func parseMember(value string) (m member, ok bool) {
	value, client, _ := strings.Cut(value, ";")
	if client != "" {
		m.clientHost, m.client, _ = splitAddr(client)
	}
	var ports string
	if strings.HasPrefix(value, "[") {
		m.host, ports, ok = strings.Cut(value[1:], "]:")
	} else {
		m.host, ports, ok = strings.Cut(value, ":")
	}
	parts := strings.Split(ports, ":")
	if !ok || len(parts) != 3 {
		return m, false
	}
	m.observer = parts[2] == "observer"
	if m.clientHost == m.host {
		m.clientHost = ""
	}
	var errs [2]error
	m.peer, errs[0] = strconv.Atoi(parts[0])
	m.gossip, errs[1] = strconv.Atoi(parts[1])
	return m, errs == [2]error{} && m.peer >= 0 && m.peer <= 65535 && m.gossip >= 0 && m.gossip <= 65535
}

// rosterOf reads the roster in a state.
func rosterOf(t *tree.Tree) (roster, uint64) {
	z, code := t.Get(znode.ConfigPath, nil, 0)
	if code != znode.OK {
		return nil, 0
	}
	return parseRoster(z.Data)
}

// txn is the write of the roster, as the operator: nobody else may write there.
func (r roster) txn(version uint64) tree.Txn {
	return tree.Txn{IDs: []znode.Identity{znode.Super}, Op: tree.Op{
		Kind: tree.KindSetData, Path: znode.ConfigPath, Version: tree.AnyVersion, Data: r.encode(version)}}
}

// newborn is the state in which an ensemble begins; it is the same on all first members.
func newborn(plan *founding.Plan) (*tree.Tree, error) {
	t := tree.New()
	if len(plan.Members) < 2 {
		return t, nil
	}
	var r roster
	for _, f := range plan.Members {
		m := member{node: f.ID, name: f.Name}
		m.host, m.peer, _ = splitAddr(f.Addr)
		r = append(r, m)
	}
	x := r.txn(1)
	if result, _ := t.Apply(1, &x); result.Code != znode.OK {
		return nil, fmt.Errorf("write the roster of the first members: %w", result.Code)
	}
	return t, nil
}
