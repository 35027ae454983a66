package zkimport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strings"

	"coord/tree"
	"coord/tree/znode"
)

// state is ZooKeeper's tree during the replay. What a txn finds there is usually older than the
// txn; if a fuzzy snapshot already has the change, it is newer.
type state struct {
	root     *node
	sessions map[int64]int32          // timeouts
	owners   map[int64]map[*node]bool // by stored owner
	sums     [charsets]uint64         // ZooKeeper's digest, for each charset
	last     uint64                   // the last zxid of the state
	seen     uint64                   // the newest change that the snapshot shows
	found    int                      // changes of the log that the snapshot had already
	began    bool                     // the first create below the root has been seen
	at       struct {
		zxid   uint64
		timeMS int64
	} // the newest change and its time
}

// node is one znode. stat is what ZooKeeper stores about it.
type node struct {
	parent   *node
	name     string
	children map[string]*node
	data     []byte    // nil is null
	acl      znode.ACL // nil: the snapshot's table lacks it
	stat
	terms [charsets]uint32 // the node's terms of the digest
}

// stat is ZooKeeper's StatPersisted. cversion counts the creates of children: it is the number in
// the next sequential name, like Created of tree.Node.
type stat struct {
	czxid, mzxid, pzxid         uint64
	ctime, mtime                int64
	version, cversion, aversion int32
	owner                       int64
}

func newState() *state {
	return &state{root: &node{}, sessions: map[int64]int32{}, owners: map[int64]map[*node]bool{}}
}

// fresh is the state of a new ZooKeeper without any file.
func fresh() *state {
	s := newState()
	s.root.data, s.root.acl = []byte{}, znode.OpenACL
	s.term(s.root, +1)
	s.system()
	return s
}

// system adds those of ZooKeeper's own znodes that are missing: 3.4 has no config.
func (s *state) system() {
	for _, path := range []string{znode.SystemPath, znode.QuotaPath, znode.ConfigPath} {
		if s.find(path) == nil {
			parent, name := znode.Split(path)
			n := &node{parent: s.find(parent), name: name, data: []byte{}, acl: znode.OpenACL}
			if path == znode.ConfigPath {
				n.acl, n.aversion = znode.ReadACL, -1
			}
			s.link(n)
		}
	}
}

// find returns the node of a path, or nil; "" and "/" are the root.
func (s *state) find(path string) *node {
	n := s.root
	if path == "" || path == znode.Root {
		return n
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil
	}
	for name := range strings.SplitSeq(rest, "/") {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	return n.parent.path() + "/" + n.name
}

// link adds a node at its place, which is free.
func (s *state) link(n *node) {
	if n.parent.children == nil {
		n.parent.children = map[string]*node{}
	}
	n.parent.children[n.name] = n
	if n.owner != 0 {
		if s.owners[n.owner] == nil {
			s.owners[n.owner] = map[*node]bool{}
		}
		s.owners[n.owner][n] = true
	}
	s.term(n, +1)
}

// unlink removes a node with everything below it. In fact a znode has no children when it is
// deleted: children that the snapshot shows are newer, and their creation comes later in the log.
func (s *state) unlink(n *node) {
	for _, child := range n.children {
		s.unlink(child)
	}
	delete(n.parent.children, n.name)
	if own := s.owners[n.owner]; own != nil {
		delete(own, n)
		if len(own) == 0 {
			delete(s.owners, n.owner)
		}
	}
	s.term(n, -1)
}

// change changes a node and updates the digest.
func (s *state) change(n *node, f func()) {
	s.term(n, -1)
	f()
	s.term(n, +1)
}

// created counts a create in the parent, unless the parent's counter is already newer.
func (s *state) created(parent *node, cversion int32, zxid uint64) {
	if parent == s.root && parent.cversion == 0 && cversion == 1 {
		s.began = true
	}
	if cversion == -1 { // the log of 3.3 does not contain it
		cversion = parent.cversion + 1
	}
	if cversion > parent.cversion {
		s.change(parent, func() { parent.cversion, parent.pzxid = cversion, zxid })
	}
}

// split splits a path in the log.
func split(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 || i == len(path)-1 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

// create, remove, setData, setACL and closeSession do what a txn did. They assume that it
// succeeded: what they do not find was deleted before or is created later.

func (s *state) create(h *txnHead, path string, data []byte, acl znode.ACL, owner int64, cversion int32) error {
	parentPath, name, ok := split(path)
	if !ok {
		return fmt.Errorf("creates the invalid path %.80q", path)
	}
	parent := s.find(parentPath)
	if parent == nil { // it was deleted while the snapshot was written
		s.found++
		return nil
	}
	if n := parent.children[name]; n != nil {
		s.found++
		n.acl = acl
		s.created(parent, cversion, h.zxid)
		return nil
	}
	s.created(parent, cversion, h.zxid)
	s.link(&node{parent: parent, name: name, data: data, acl: acl, stat: stat{
		czxid: h.zxid, mzxid: h.zxid, pzxid: h.zxid, ctime: h.timeMS, mtime: h.timeMS, owner: owner}})
	return nil
}

func (s *state) remove(path string, zxid uint64) error {
	parentPath, name, ok := split(path)
	if !ok {
		return fmt.Errorf("deletes the invalid path %.80q", path)
	}
	parent := s.find(parentPath)
	if parent == nil {
		s.found++
		return nil
	}
	if zxid > parent.pzxid { // even if the child was deleted while the snapshot was written
		s.change(parent, func() { parent.pzxid = zxid })
	}
	if n := parent.children[name]; n != nil {
		s.unlink(n)
	} else {
		s.found++
	}
	return nil
}

func (s *state) setData(h *txnHead, path string, data []byte, version int32) {
	n := s.find(path)
	if n == nil {
		s.found++
		return
	}
	s.change(n, func() { n.data, n.version, n.mzxid, n.mtime = data, version, h.zxid, h.timeMS })
}

func (s *state) setACL(path string, acl znode.ACL, version int32) {
	n := s.find(path)
	if n == nil {
		s.found++
		return
	}
	s.change(n, func() { n.acl, n.aversion = acl, version })
}

// closeSession ends a session; since 3.6 the txn names the session's ephemerals.
func (s *state) closeSession(h *txnHead, paths []string) error {
	delete(s.sessions, h.session)
	for _, path := range paths {
		if err := s.remove(path, h.zxid); err != nil {
			return err
		}
	}
	for _, n := range slices.Collect(maps.Keys(s.owners[h.session])) {
		if err := s.remove(n.path(), h.zxid); err != nil {
			return err
		}
	}
	return nil
}

// ZooKeeper's digest is the sum of one term for each znode except those below /zookeeper: the
// CRC-32 of its path, data and stat. It uses the path's bytes in the charset of its Java: UTF-8, or
// ASCII with ? for all other characters.
const (
	inUTF8 = iota
	inASCII
	charsets
)

func (s *state) term(n *node, sign int) {
	if n.parent != nil && n.parent.parent != nil && s.belowSystem(n) {
		return
	}
	if sign < 0 {
		for i, t := range n.terms {
			s.sums[i] -= uint64(t)
		}
		return
	}
	path := n.path()
	var b [60]byte
	for i, x := range []uint64{n.czxid, n.mzxid, n.pzxid, uint64(n.ctime), uint64(n.mtime)} {
		binary.BigEndian.PutUint64(b[8*i:], x)
	}
	for i, x := range []int32{n.version, n.cversion, n.aversion} {
		binary.BigEndian.PutUint32(b[40+4*i:], uint32(x))
	}
	binary.BigEndian.PutUint64(b[52:], uint64(n.owner))
	sum := func(path string) uint32 {
		return crc32.Update(crc32.Update(crc32.ChecksumIEEE([]byte(path)), crc32.IEEETable, n.data), crc32.IEEETable, b[:])
	}
	n.terms[inUTF8] = sum(path)
	n.terms[inASCII] = n.terms[inUTF8]
	if ascii := asASCII(path); ascii != path {
		n.terms[inASCII] = sum(ascii)
	}
	for i, t := range n.terms {
		s.sums[i] += uint64(t)
	}
}

func (s *state) belowSystem(n *node) bool {
	for n.parent.parent != nil {
		n = n.parent
	}
	return n.name == znode.SystemPath[1:]
}

func asASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r > 0x7f {
			return '?'
		}
		return r
	}, s)
}

// quotas recomputes the usage of each quota, as ZooKeeper does when it starts.
func (s *state) quotas() {
	var walk func(n *node)
	walk = func(n *node) {
		for _, child := range n.children {
			walk(child)
		}
		stats := n.children[znode.StatsName]
		if n.children[znode.LimitsName] == nil || stats == nil {
			return
		}
		count, size := 0, 0
		var add func(n *node)
		add = func(n *node) {
			count, size = count+1, size+len(n.data)
			for _, child := range n.children {
				add(child)
			}
		}
		if governed := s.find(strings.TrimPrefix(n.path(), znode.QuotaPath)); governed != nil {
			add(governed)
		}
		stats.data = fmt.Appendf(nil, "count=%d,bytes=%d", count, size)
	}
	for _, n := range s.find(znode.QuotaPath).children {
		walk(n)
	}
}

// built is a state as a tree, with what is worth a notice.
type built struct {
	tree *tree.Tree
	// renamed are the sessions whose ids coord cannot have (those of ZooKeeper's server 255 look
	// like a TTL): id in the tree → ZooKeeper's.
	renamed map[int64]int64
	schemes []string // schemes in ACLs for which coord has no authentication
	large   int      // znodes with more than usualBytes of data
	hard    int      // quotas with a hard limit
}

// usualBytes is the largest value that coord accepts by default.
const usualBytes = 1 << 20

// build makes the tree.
func (s *state) build() (*built, error) {
	out := &built{renamed: map[int64]int64{}}
	b := tree.NewBuilder()
	var unfit UnfitError
	schemes := map[string]bool{}
	used := map[int64]bool{}
	var walk func(n *node, path string) error
	walk = func(n *node, path string) error {
		if err := znode.CheckPath(path); err != nil {
			if unfit.Err == nil {
				unfit.Err = err
			} else {
				unfit.More++
			}
			return nil
		}
		if n.acl == nil {
			return fmt.Errorf("the access list of %.80q is neither in the snapshot nor in a later txn", path)
		}
		for _, e := range n.acl {
			if !slices.Contains([]string{znode.SchemeWorld, znode.SchemeDigest, znode.SchemeIP}, e.Scheme) {
				schemes[e.Scheme] = true
			}
		}
		owner := s.explain(n.owner)
		if session := znode.ExplainOwner(owner).Session; session != 0 {
			used[session] = true
		}
		if owner != n.owner && znode.ExplainOwner(owner).Session != 0 {
			out.renamed[owner] = n.owner
		}
		if len(n.data) > usualBytes {
			out.large++
		}
		if n.name == znode.LimitsName && bytes.Contains(n.data, []byte("HardLimit=")) {
			out.hard++
		}
		if err := b.Add(&tree.Node{
			Path: path, Data: n.data, ACL: n.acl, Czxid: znode.Zxid(n.czxid), Mzxid: znode.Zxid(n.mzxid), Pzxid: znode.Zxid(n.pzxid),
			CtimeMS: n.ctime, MtimeMS: n.mtime, Version: n.version, Aversion: n.aversion, Created: n.cversion, Owner: owner,
		}); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(n.children)) {
			if err := walk(n.children[name], znode.Join(path, name)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(s.root, znode.Root); err != nil {
		return nil, err
	}
	if unfit.Err != nil {
		return nil, &unfit
	}
	// This includes sessions that the log has ended or never had: ZooKeeper ends them, with their
	// ephemerals, when it starts.
	timeouts := map[int64]int32{}
	for id, timeout := range s.sessions {
		if known := s.explain(id); known != id {
			out.renamed[known] = id
			id = known
		}
		timeouts[id] = timeout
	}
	for id := range used {
		timeouts[id] = max(timeouts[id], 0)
	}
	for id, timeout := range timeouts {
		if err := b.AddSession(tree.Session{ID: id, TimeoutMS: timeout}); err != nil {
			return nil, err
		}
	}
	out.schemes = slices.Sorted(maps.Keys(schemes))
	var err error
	out.tree, err = b.Tree(tree.Counters{Zxid: znode.Zxid(s.last), TimeMS: s.at.timeMS, Settings: tree.DefaultSettings})
	return out, err
}

// explain turns ZooKeeper's stored owner into coord's. The forms overlap. Servers with number 128
// and above give negative session ids, and the TTLs of 3.5.3 were negative too (0x80 in the top
// byte, milliseconds in the others). The ids of server 255 look like today's TTLs (0xff in the top
// byte, then 16 zero bits, milliseconds in 40). Two things help: a session id has bits of the time
// of day where a TTL of less than 34 years has zeros, and it may be in the table of sessions.
func (s *state) explain(stored int64) int64 {
	const reserved = 0xffff << 40
	_, session := s.sessions[stored]
	top, ttl := byte(uint64(stored)>>56), stored&znode.MaxTTLMS
	switch {
	case stored >= 0 || stored == math.MinInt64:
		return stored
	case !session && (top == 0xff || top == 0x80) && stored&reserved == 0 && ttl > 0:
		return znode.TTLOwner(ttl)
	case top == 0xff:
		return stored &^ (1 << 56) // a session of server 254
	}
	return stored
}

// newest records the time of the newest change.
func (s *state) newest(zxid uint64, timeMS int64) {
	if zxid >= s.at.zxid {
		s.at.zxid, s.at.timeMS = zxid, timeMS
	}
}
