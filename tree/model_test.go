package tree_test

import (
	"fmt"
	"maps"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"coord/tree"
	"coord/tree/znode"
)

// model is what the tree must be: the reference page as the plainest code that says the same. It
// shares nothing with the tree but package znode, finds children by looking at every path, and
// copies everything to be able to go back.
type model struct {
	nodes    map[string]tree.Node
	sessions map[int64]tree.Session
	counters tree.Counters
	events   []znode.Event
	judge    map[string]tree.Node // in a multi: the znodes before it
}

// load makes a model from a snapshot's records.
func load(nodes []tree.Node, sessions []tree.Session, c tree.Counters) *model {
	m := &model{nodes: map[string]tree.Node{}, sessions: map[int64]tree.Session{}, counters: c}
	for _, n := range nodes {
		m.nodes[n.Path] = n
	}
	for _, s := range sessions {
		m.sessions[s.ID] = s
	}
	return m
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.nodes), maps.Clone(m.sessions), m.counters, nil, nil}
}

func parentOf(path string) string {
	i := strings.LastIndex(path, "/")
	if i <= 0 {
		return "/"
	}
	return path[:i]
}

func isChild(path, parent string) bool { return path != "/" && parentOf(path) == parent }

func isBelow(path, top string) bool {
	return path == top || top == "/" || strings.HasPrefix(path, top+"/")
}

// components is a path in the form by which paths are ordered.
func components(path string) []string {
	if path == "/" {
		return nil
	}
	return strings.Split(path[1:], "/")
}

func byComponents(a, b string) int { return slices.Compare(components(a), components(b)) }

// paths returns all paths, parents before children, children ordered by name.
func (m *model) paths() []string { return slices.SortedFunc(maps.Keys(m.nodes), byComponents) }

func (m *model) children(path string) []string {
	var names []string
	for p := range m.nodes {
		if isChild(p, path) {
			names = append(names, p[strings.LastIndex(p, "/")+1:])
		}
	}
	slices.Sort(names)
	return names
}

func sessionOf(n tree.Node) int64 {
	if top := uint64(n.Owner) >> 56; n.Owner == math.MinInt64 || top == 0xff {
		return 0
	}
	return n.Owner
}

func isContainer(n tree.Node) bool { return n.Owner == math.MinInt64 }

func ttlOf(n tree.Node) int64 {
	if uint64(n.Owner)>>56 == 0xff {
		return n.Owner & 0xffffffffff
	}
	return 0
}

func (m *model) stat(n tree.Node) znode.Stat {
	count := int32(len(m.children(n.Path)))
	return znode.Stat{
		Czxid: n.Czxid, Mzxid: n.Mzxid, Pzxid: n.Pzxid, CtimeMS: n.CtimeMS, MtimeMS: n.MtimeMS,
		Version: n.Version, Cversion: 2*n.Created - count, Aversion: n.Aversion,
		EphemeralOwner: sessionOf(n), DataLength: int32(len(n.Data)), NumChildren: count,
	}
}

var (
	goodPath = regexp.MustCompile(`^(/|(/[^/\x00-\x1f\x7f-\x9f\x{e000}-\x{f8ff}\x{fff0}-\x{10ffff}]+)+)$`)
	dots     = regexp.MustCompile(`/\.\.?(/|$)`)
)

func pathIsGood(p string) bool {
	return len(p) <= 4096 && goodPath.MatchString(p) && !dots.MatchString(p)
}

// normalACL is section 7.4 of the reference.
func normalACL(a znode.ACL, ids []znode.Identity) (znode.ACL, bool) {
	var out znode.ACL
	add := func(perms znode.Perms, scheme, id string) {
		e := znode.ACLEntry{Perms: perms, Identity: znode.Identity{Scheme: scheme, ID: id}}
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	for _, e := range a {
		ok := false
		switch e.Scheme {
		case "world":
			ok = e.ID == "anyone"
		case "digest":
			parts := strings.Split(e.ID, ":")
			ok = len(parts) == 2 && parts[1] != ""
		case "ip":
			_, _, err := net.ParseCIDR(e.ID)
			ok = err == nil || net.ParseIP(e.ID) != nil
		case "auth":
			for _, id := range ids {
				if id.Scheme == "digest" {
					add(e.Perms, "digest", id.ID)
					ok = true
				}
			}
		}
		if !ok {
			return nil, false
		}
		if e.Scheme != "auth" {
			add(e.Perms, e.Scheme, e.ID)
		}
	}
	return out, len(out) > 0
}

// allows is section 7.2.
func (m *model) allows(n tree.Node, ids []znode.Identity, need znode.Perms) bool {
	if m.counters.Settings.SkipACL || len(n.ACL) == 0 {
		return true
	}
	for _, id := range ids {
		if id.Scheme == "super" {
			return true
		}
	}
	for _, e := range n.ACL {
		if e.Perms&need == 0 {
			continue
		}
		if e.Scheme == "world" && e.ID == "anyone" {
			return true
		}
		for _, id := range ids {
			if id.Scheme != e.Scheme {
				continue
			}
			if id.ID == e.ID {
				return true
			}
			if e.Scheme == "ip" && inBlock(id.ID, e.ID) {
				return true
			}
		}
	}
	return false
}

func inBlock(address, entry string) bool {
	if _, block, err := net.ParseCIDR(entry); err == nil {
		return block.Contains(net.ParseIP(address))
	}
	return net.ParseIP(entry).Equal(net.ParseIP(address))
}

// apply is the model's tree.Apply.
func (m *model) apply(term uint64, x *tree.Txn) (tree.Result, []znode.Event) {
	c := &m.counters
	epoch := uint64(c.EpochOffset) + term
	switch {
	case epoch > uint64(c.Zxid)>>32:
		c.Zxid = znode.Zxid(epoch<<32 | 1)
	case uint64(c.Zxid)&0xffffffff == 0xffffffff:
		c.EpochOffset++
		c.Zxid = znode.Zxid((epoch+1)<<32 | 1)
	default:
		c.Zxid++
	}
	if x.TimeMS > c.TimeMS {
		c.TimeMS = x.TimeMS
	}
	before := m.clone()
	m.events = nil
	r := m.change(x)
	if r.Code != znode.OK {
		*m = *before
	}
	r.Zxid = m.counters.Zxid
	return r, m.events
}

func no(c znode.Code) tree.Result { return tree.Result{Code: c} }

func (m *model) change(x *tree.Txn) tree.Result {
	switch x.Kind {
	case tree.KindMulti:
		all := []tree.Result{}
		m.judge = maps.Clone(m.nodes)
		defer func() { m.judge = nil }()
		for i := range x.Ops {
			r := m.op(x, &x.Ops[i])
			r.Zxid = m.counters.Zxid
			if r.Code != znode.OK {
				r.Op = i
				return r
			}
			all = append(all, r)
		}
		return tree.Result{Ops: all}
	case tree.KindSession:
		top := uint64(x.Target) >> 56
		if len(x.Password) != 16 || x.Target == 0 || x.Target == math.MinInt64 || top == 0xff {
			return no(znode.ErrBadArguments)
		}
		if _, there := m.sessions[x.Target]; there {
			return no(znode.ErrNodeExists)
		}
		m.sessions[x.Target] = tree.Session{ID: x.Target, TimeoutMS: x.TimeoutMS, Password: [16]byte(x.Password)}
		return tree.Result{}
	case tree.KindAttach:
		s, there := m.sessions[x.Target]
		switch {
		case !there:
			return no(znode.ErrSessionExpired)
		case string(x.Password) != string(s.Password[:]):
			return no(znode.ErrAuthFailed)
		case x.Session == x.Target && x.Attachment != s.Attachment:
			return no(znode.ErrSessionMoved)
		case x.Session != x.Target:
			s.Attachment++
			m.events = append(m.events, znode.Event{Type: znode.SessionMoved, Zxid: m.counters.Zxid, Session: x.Target})
		}
		if x.TimeoutMS != 0 {
			s.TimeoutMS = x.TimeoutMS
		}
		m.sessions[x.Target] = s
		return tree.Result{Attachment: s.Attachment}
	case tree.KindClose:
		if code := m.caller(x); code != znode.OK {
			return no(code)
		}
		if _, there := m.sessions[x.Target]; !there {
			return no(znode.ErrSessionExpired)
		}
		for _, p := range slices.Sorted(maps.Keys(m.nodes)) {
			if sessionOf(m.nodes[p]) == x.Target {
				m.drop(p)
			}
		}
		delete(m.sessions, x.Target)
		m.events = append(m.events, znode.Event{Type: znode.SessionEnded, Zxid: m.counters.Zxid, Session: x.Target})
		return tree.Result{}
	case tree.KindSettings:
		m.counters.Settings = x.Settings
		return tree.Result{}
	default:
		return m.op(x, &x.Op)
	}
}

func (m *model) caller(x *tree.Txn) znode.Code {
	s, alive := m.sessions[x.Session]
	switch {
	case x.Session != 0 && !alive:
		return znode.ErrSessionExpired
	case x.Session != 0 && x.Attachment != s.Attachment:
		return znode.ErrSessionMoved
	}
	return znode.OK
}

func (m *model) op(x *tree.Txn, op *tree.Op) tree.Result {
	caller := m.caller(x)
	if op.Kind == tree.KindCreate {
		return m.create(x, op, caller)
	}
	if caller != znode.OK {
		return no(caller)
	}
	node, there := m.nodes[op.Path]
	if op.Kind == tree.KindDelete {
		return m.remove(x, op, node, there)
	}
	if op.Kind == tree.KindReap {
		return m.reap(x, node, there)
	}
	if !pathIsGood(op.Path) {
		return no(znode.ErrBadArguments)
	}
	acl, aclIsGood := normalACL(op.ACL, x.IDs)
	if op.Kind == tree.KindSetACL && !aclIsGood {
		return no(znode.ErrInvalidACL)
	}
	if !there && op.Kind == tree.KindSetData && op.Flags&tree.OrCreate != 0 && op.Version == -1 {
		return m.create(x, &tree.Op{Path: op.Path, Data: op.Data, ACL: znode.OpenACL, Flags: op.Flags & tree.Parents}, znode.OK)
	}
	if !there {
		return no(znode.ErrNoNode)
	}
	need := map[tree.Kind]znode.Perms{tree.KindSetData: 2, tree.KindSetACL: 16, tree.KindCheck: 1}[op.Kind]
	if !m.allows(node, x.IDs, need) {
		return no(znode.ErrNoAuth)
	}
	grown := len(op.Data) - len(node.Data)
	if op.Kind == tree.KindSetData && m.overQuota(op.Path, grown, 0) {
		return no(znode.ErrQuotaExceeded)
	}
	have := node.Version
	if op.Kind == tree.KindSetACL {
		have = node.Aversion
	}
	if op.Version != -1 && op.Version != have {
		return tree.Result{Code: znode.ErrBadVersion, Have: have}
	}
	switch op.Kind {
	case tree.KindSetData:
		node.Data, node.Version = op.Data, node.Version+1
		node.Mzxid, node.MtimeMS = m.counters.Zxid, m.counters.TimeMS
		m.nodes[op.Path] = node
		m.tell(znode.NodeDataChanged, op.Path, node.ACL)
		r := tree.Result{Path: op.Path, Stat: m.stat(node)}
		m.use(op.Path, grown, 0)
		return r
	case tree.KindSetACL:
		node.ACL, node.Aversion = acl, node.Aversion+1
		m.nodes[op.Path] = node
		return tree.Result{Path: op.Path, Stat: m.stat(node)}
	}
	return tree.Result{}
}

func (m *model) tell(what znode.EventType, path string, acl znode.ACL) {
	if m.counters.Settings.SkipACL {
		acl = nil // everyone may see it
	}
	e := znode.Event{Type: what, Path: path, Zxid: m.counters.Zxid, ACL: acl}
	if what == znode.NodeCreated || what == znode.NodeDataChanged {
		e.Version, e.Data = m.nodes[path].Version, string(m.nodes[path].Data)
	}
	m.events = append(m.events, e)
}

func (m *model) create(x *tree.Txn, op *tree.Op, caller znode.Code) tree.Result {
	ephemeral := op.Mode == 1 || op.Mode == 3
	sequential := op.Mode == 2 || op.Mode == 3 || op.Mode == 6
	ttl := op.Mode == 5 || op.Mode == 6
	switch {
	case op.Mode < 0 || op.Mode > 6:
		return no(znode.ErrBadArguments)
	case ttl && !m.counters.Settings.ExtendedTypes:
		return no(znode.ErrUnimplemented)
	case ttl && (op.TTLMS < 1 || op.TTLMS > 1099511627775):
		return no(znode.ErrBadArguments)
	case caller != znode.OK:
		return no(caller)
	case ephemeral && x.Session == 0:
		return no(znode.ErrSessionExpired)
	case !strings.Contains(op.Path, "/") || strings.Contains(op.Path, "\x00"):
		return no(znode.ErrBadArguments)
	}
	acl, ok := normalACL(op.ACL, x.IDs)
	if !ok {
		return no(znode.ErrInvalidACL)
	}
	above := op.Path[:strings.LastIndex(op.Path, "/")]
	if above == "" {
		above = "/"
	}
	if _, there := m.nodes[above]; !there && op.Flags&tree.Parents != 0 {
		path := op.Path
		if sequential {
			path += "0000000000"
		}
		if !pathIsGood(path) {
			return no(znode.ErrBadArguments)
		}
		names := components(above)
		for i := range names {
			p := "/" + strings.Join(names[:i+1], "/")
			if _, there := m.nodes[p]; there {
				continue
			}
			if c := m.add(x, parentOf(p), p, []byte{}, m.nodes[parentOf(p)].ACL, 0); c != znode.OK {
				return no(c)
			}
		}
	}
	parent, there := m.nodes[above]
	if !there {
		return no(znode.ErrNoNode)
	}
	if !m.allows(parent, x.IDs, 4) {
		return no(znode.ErrNoAuth)
	}
	path := op.Path
	if sequential {
		path += fmt.Sprintf("%010d", parent.Created)
	}
	if !pathIsGood(path) {
		return no(znode.ErrBadArguments)
	}
	var owner int64
	switch {
	case ephemeral:
		owner = x.Session
	case ttl:
		owner = -1<<56 | op.TTLMS
	case op.Mode == 4:
		owner = math.MinInt64
	}
	if c := m.add(x, above, path, op.Data, acl, owner); c != znode.OK {
		return no(c)
	}
	made := m.nodes[path]
	made.Data = op.Data // a stats znode may have been filled in since
	return tree.Result{Path: path, Stat: m.stat(made)}
}

// add creates one znode below an existing parent, or returns why not.
func (m *model) add(x *tree.Txn, above, path string, data []byte, acl znode.ACL, owner int64) znode.Code {
	parent := m.nodes[above]
	if !m.allows(parent, x.IDs, 4) {
		return znode.ErrNoAuth
	}
	if _, there := m.nodes[path]; there {
		return znode.ErrNodeExists
	}
	if sessionOf(parent) != 0 {
		return znode.ErrNoChildrenForEphemerals
	}
	if m.overQuota(path, len(data), 1) {
		return znode.ErrQuotaExceeded
	}
	now, at := m.counters.Zxid, m.counters.TimeMS
	m.nodes[path] = tree.Node{Path: path, Data: data, ACL: acl, Czxid: now, Mzxid: now, Pzxid: now, CtimeMS: at, MtimeMS: at, Owner: owner}
	if parent.Created != math.MaxInt32 {
		parent.Created++
	}
	parent.Pzxid = now
	m.nodes[above] = parent
	m.tell(znode.NodeCreated, path, acl)
	m.tell(znode.NodeChildrenChanged, above, parent.ACL)
	if governed, ok := strings.CutSuffix(path, "/zookeeper_stats"); ok && strings.HasPrefix(governed, "/zookeeper/quota/") {
		m.recount(strings.TrimPrefix(governed, "/zookeeper/quota"))
	}
	m.use(path, len(data), 1)
	return znode.OK
}

func (m *model) remove(x *tree.Txn, op *tree.Op, node tree.Node, there bool) tree.Result {
	if !strings.Contains(op.Path, "/") || strings.Contains(op.Path, "\x00") ||
		slices.Contains([]string{"/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}, op.Path) {
		return no(znode.ErrBadArguments)
	}
	parent, parentThere := m.nodes[parentOf(op.Path)]
	switch {
	case !parentThere:
		return no(znode.ErrNoNode)
	case !m.allows(parent, x.IDs, 8):
		return no(znode.ErrNoAuth)
	case !there:
		return no(znode.ErrNoNode)
	case op.Version != -1 && op.Version != node.Version:
		return tree.Result{Code: znode.ErrBadVersion, Have: node.Version}
	case len(m.children(op.Path)) > 0 && op.Flags&tree.Recursive == 0:
		return no(znode.ErrNotEmpty)
	}
	// Level by level, by name; removed in reverse order.
	doomed := []string{op.Path}
	for i := 0; i < len(doomed); i++ {
		names := m.children(doomed[i])
		if len(names) == 0 {
			continue
		}
		if len(doomed)+len(names) > int(op.Limit) {
			return no(znode.ErrLimit)
		}
		if !m.allows(m.nodes[doomed[i]], x.IDs, 8) {
			return no(znode.ErrNoAuth)
		}
		for _, name := range names {
			doomed = append(doomed, doomed[i]+"/"+name)
		}
	}
	slices.Reverse(doomed)
	for _, p := range doomed {
		m.drop(p)
	}
	return tree.Result{}
}

func (m *model) drop(path string) {
	node, above := m.nodes[path], parentOf(path)
	delete(m.nodes, path)
	parent := m.nodes[above]
	parent.Pzxid = m.counters.Zxid
	m.nodes[above] = parent
	m.tell(znode.NodeDeleted, path, node.ACL)
	m.tell(znode.NodeChildrenChanged, above, parent.ACL)
	m.use(path, -len(node.Data), -1)
}

func (m *model) reap(x *tree.Txn, node tree.Node, there bool) tree.Result {
	switch {
	case !there:
		return no(znode.ErrNoNode)
	case len(m.children(node.Path)) > 0:
		return no(znode.ErrNotEmpty)
	case isContainer(node) && node.Created > 0 && node.Pzxid == znode.Zxid(x.Target),
		ttlOf(node) > 0 && node.Mzxid == znode.Zxid(x.Target):
		m.drop(node.Path)
		return tree.Result{}
	}
	return no(znode.ErrBadVersion)
}

// quota returns the closest ancestor (or path itself) that has limits.
func quota(nodes map[string]tree.Node, path string) (string, bool) {
	for p := path; p != "/"; p = parentOf(p) {
		if _, there := nodes["/zookeeper/quota"+p+"/zookeeper_limits"]; there {
			return p, true
		}
	}
	return "", false
}

func quotaNumber(data []byte, key string) int64 {
	n := int64(-1)
	for _, part := range strings.FieldsFunc(string(data), func(r rune) bool { return r == ',' || r == ';' }) {
		if words := strings.Split(part, "="); words[0] == key && len(words) > 1 {
			var err error
			if n, err = strconv.ParseInt(words[1], 10, 64); err != nil {
				n = -1
			}
		}
	}
	return n
}

func (m *model) overQuota(path string, bytes, count int) bool {
	nodes := m.nodes
	if m.judge != nil { // a multi is judged by the quotas before it
		nodes = m.judge
	}
	p, ok := quota(nodes, path)
	if !ok || !m.counters.Settings.EnforceQuota {
		return false
	}
	limits := nodes["/zookeeper/quota"+p+"/zookeeper_limits"].Data
	stats, counted := nodes["/zookeeper/quota"+p+"/zookeeper_stats"]
	over := func(key, hard string, more int) bool {
		limit := quotaNumber(limits, hard)
		return more != 0 && limit >= 0 && quotaNumber(stats.Data, key)+int64(more) > limit
	}
	return counted && (over("count", "countHardLimit", count) || over("bytes", "byteHardLimit", bytes))
}

func (m *model) use(path string, bytes, count int) {
	p, ok := quota(m.nodes, path)
	if !ok {
		return
	}
	if n, there := m.nodes["/zookeeper/quota"+p+"/zookeeper_stats"]; there {
		m.setStats(p, quotaNumber(n.Data, "count")+int64(count), quotaNumber(n.Data, "bytes")+int64(bytes), false)
	}
}

func (m *model) recount(top string) {
	var bytes, count int64
	if _, there := m.nodes[top]; there {
		for p, n := range m.nodes {
			if isBelow(p, top) {
				bytes, count = bytes+int64(len(n.Data)), count+1
			}
		}
	}
	m.setStats(top, count, bytes, true)
}

// setStats writes the usage; fresh means that counting begins now.
func (m *model) setStats(top string, count, bytes int64, fresh bool) {
	path := "/zookeeper/quota" + top + "/zookeeper_stats"
	n := m.nodes[path]
	old := n.Data
	if fresh {
		old = nil
	}
	n.Data = fmt.Appendf(nil, "count=%d,bytes=%d", count, bytes)
	more := map[string]bool{} // the other keys are kept, in order
	for _, part := range strings.FieldsFunc(string(old), func(r rune) bool { return r == ',' || r == ';' }) {
		more[strings.Split(part, "=")[0]] = true
	}
	delete(more, "count")
	delete(more, "bytes")
	for i, key := range slices.Sorted(maps.Keys(more)) {
		if i == 0 {
			n.Data = append(n.Data, '=')
		}
		n.Data = fmt.Appendf(n.Data, ";%s=%d", key, quotaNumber(old, key))
	}
	m.nodes[path] = n
}
