package replica_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// What the clients' paths are for. The checker goes by the path, whatever a txn contains.
const (
	simGroups     = 3 // "/g0", …: each has two znodes that only transactions change, and always both at once
	simContainers = 3 // "/c0", …
	simTTLs       = 3 // "/t0", …
	simSequences  = "/q"

	containerInterval = 2 * time.Second
	// reapGrace is how long a leader may take to find and delete what is due.
	reapGrace = 3 * time.Second
)

// ttlOf is the TTL of "/t0", …
func ttlOf(i int) time.Duration { return 1500*time.Millisecond + time.Duration(i)*500*time.Millisecond }

// lasting is how long a container or TTL znode stays once it is no longer needed; 0: the path is
// for neither.
func lasting(path string) (wait time.Duration, container bool) {
	if len(path) != 3 {
		return 0, false
	}
	switch path[1] {
	case 'c':
		return containerInterval, true
	case 't':
		return ttlOf(int(path[2] - '0')), false
	}
	return 0, false
}

// model is the tree that should exist, by the checker's own short version of the tree's rules.
type model map[string]modelZnode

type modelZnode struct {
	version           int32
	children, created int
	mzxid, pzxid      znode.Zxid
	changed           time.Duration // the last change that restarts its time
	emptied           time.Duration // when its last child was deleted
}

func newModel() model { return model{znode.Root: {}} }

// judge checks the outcome of a txn of the history against the model.
func (k *checker) judge(x *tree.Txn, r tree.Result) {
	if r.Code == znode.ErrSessionExpired || r.Code == znode.ErrSessionMoved {
		return // inOrder checks these
	}
	ops, before, was := x.Ops, k.model, k.model[x.Path]
	switch x.Kind {
	case tree.KindMulti:
		k.model = maps.Clone(k.model)
	case tree.KindCreate, tree.KindDelete, tree.KindSetData, tree.KindReap:
		ops = []tree.Op{x.Op}
	default:
		return
	}
	paths := make([]string, len(ops))
	for i := range ops {
		path, code := k.model.do(x, &ops[i], r.Zxid, k.s.now)
		if code != znode.OK {
			k.model = before
			k.s.seen["txns refused"]++
			if x.Kind == tree.KindMulti {
				k.s.seen["transactions refused"]++
			}
			if r.Code != code || r.Op != i {
				k.s.fail("txn of kind %d at %s: op %d is refused with %v; it should be op %d with %v", x.Kind, ops[i].Path, r.Op, r.Code, i, code)
			}
			return
		}
		paths[i] = path
	}
	if r.Code != znode.OK {
		k.s.fail("txn of kind %d at %s: %v, it should be done", x.Kind, x.Path, r.Code)
		return
	}
	if x.Kind == tree.KindMulti {
		k.s.seen["transactions"]++
	}
	for i := range ops {
		switch ops[i].Kind {
		case tree.KindCreate:
			k.created(x, paths[i])
		case tree.KindDelete, tree.KindReap:
			k.removed(x, &ops[i], was)
		}
	}
}

// do makes one change, or returns why it is impossible.
func (m model) do(x *tree.Txn, op *tree.Op, zxid znode.Zxid, now time.Duration) (path string, code znode.Code) {
	z, there := m[op.Path]
	switch {
	case op.Kind == tree.KindCreate, op.Kind == tree.KindSetData && !there && op.Flags&tree.OrCreate != 0:
		return m.create(op, zxid, now)
	case !there:
		return "", znode.ErrNoNode
	case op.Version != tree.AnyVersion && op.Version != z.version && op.Kind != tree.KindReap:
		return "", znode.ErrBadVersion
	}
	switch op.Kind {
	case tree.KindSetData:
		z.version++
		z.mzxid = zxid
		if _, container := lasting(op.Path); !container {
			z.changed = now
		}
		m[op.Path] = z
	case tree.KindDelete, tree.KindReap:
		if z.children > 0 {
			return "", znode.ErrNotEmpty
		}
		if op.Kind == tree.KindReap && !z.isDue(op.Path, znode.Zxid(x.Target)) {
			return "", znode.ErrBadVersion
		}
		m.remove(op.Path, zxid, now)
	}
	return op.Path, znode.OK
}

// isDue says whether a childless znode is the one that the leader saw when it decided to delete it.
func (z *modelZnode) isDue(path string, seen znode.Zxid) bool {
	wait, container := lasting(path)
	if container {
		return z.created > 0 && z.pzxid == seen
	}
	return wait > 0 && z.mzxid == seen
}

func (m model) create(op *tree.Op, zxid znode.Zxid, now time.Duration) (path string, code znode.Code) {
	parent, _ := znode.Split(op.Path)
	p, there := m[parent]
	switch {
	case !there && op.Flags&tree.Parents == 0:
		return "", znode.ErrNoNode
	case !there: // the parent lies under the root
		m.add(parent, zxid, now)
	}
	path = op.Path
	if op.Mode.Sequential() {
		path = fmt.Sprintf("%s%010d", path, p.created)
	}
	if _, there := m[path]; there {
		return "", znode.ErrNodeExists
	}
	m.add(path, zxid, now)
	return path, znode.OK
}

func (m model) add(path string, zxid znode.Zxid, now time.Duration) {
	m[path] = modelZnode{mzxid: zxid, pzxid: zxid, changed: now}
	parent, _ := znode.Split(path)
	p := m[parent]
	p.children++
	p.created++
	m.moved(parent, p, zxid, now)
}

func (m model) remove(path string, zxid znode.Zxid, now time.Duration) {
	delete(m, path)
	parent, _ := znode.Split(path)
	p := m[parent]
	if p.children--; p.children == 0 {
		p.emptied = now
	}
	m.moved(parent, p, zxid, now)
}

// moved records that a child was created or deleted.
func (m model) moved(path string, z modelZnode, zxid znode.Zxid, now time.Duration) {
	z.pzxid = zxid
	if _, container := lasting(path); container {
		z.changed = now
	}
	m[path] = z
}

// created checks a new znode: its number is new under its parent, and an ephemeral is owned by its
// session.
func (k *checker) created(x *tree.Txn, path string) {
	s := k.s
	if parent, name := znode.Split(path); strings.Contains(name, "-") {
		s.seen["sequential znodes"]++
		_, digits, _ := strings.Cut(name, "-")
		number, err := strconv.Atoi(digits)
		if last, any := k.numbers[parent]; err != nil || any && number <= last {
			s.fail("%s is created, and the last number there was %d", path, last)
		}
		k.numbers[parent] = number
	}
	switch _, container := lasting(path); {
	case container:
		s.seen["containers"]++
	case isEphemeral(path):
		s.seen["ephemerals"]++
		k.ephemerals[path] = x.Session
		k.sessions[x.Session].znodes[path] = true
	}
}

func isEphemeral(path string) bool {
	return strings.HasPrefix(path, "/e/") || strings.HasPrefix(path, simSequences+"/e-")
}

// removed checks the end of a znode: a container or TTL znode is deleted when its time is over, and
// only on the leader's decision.
func (k *checker) removed(x *tree.Txn, op *tree.Op, was modelZnode) {
	s := k.s
	if holder, is := k.ephemerals[op.Path]; is {
		delete(k.ephemerals, op.Path)
		delete(k.sessions[holder].znodes, op.Path)
	}
	delete(k.numbers, op.Path)
	parent, _ := znode.Split(op.Path)
	if p := k.model[parent]; strings.HasPrefix(parent, "/t") && p.children == 0 {
		if wait, _ := lasting(parent); s.now >= p.changed+wait {
			s.seen["TTL znodes that a child kept"]++
		}
	}
	wait, container := lasting(op.Path)
	switch {
	case wait == 0:
		return
	case op.Kind != tree.KindReap:
		s.fail("%s is deleted by session %#x, not as its time is over", op.Path, x.Session)
	case s.now < was.changed+wait:
		s.fail("%s is deleted %v after its last change; it has %v", op.Path, s.now-was.changed, wait)
	case container:
		s.seen["containers deleted"]++
	default:
		s.seen["TTL znodes deleted"]++
	}
}

// reaps checks a leader's decision to delete a container or TTL znode.
func (k *checker) reaps(l *simNode, x *tree.Txn) {
	z, there := k.model[x.Path]
	if !there || z.children > 0 || !z.isDue(x.Path, znode.Zxid(x.Target)) {
		k.s.seen["deletions decided too late"]++
		return // it will be refused
	}
	since := z.changed
	if l.r.Status().Role == "leader" {
		since = max(since, l.leads)
	}
	if wait, _ := lasting(x.Path); k.s.now < since+wait {
		k.s.fail("node %d, which leads since %v, deletes %s, changed at %v, early: it has %v", l.id, l.leads, x.Path, z.changed, wait)
	}
}

// endOfModel: the tree has what the model has, and no znode whose time was over long ago.
func (k *checker) endOfModel() {
	s, l := k.s, k.s.leader()
	if n := k.tree.Counts().Znodes - k.systemZnodes; n != len(k.model)-1 {
		s.fail("there are %d znodes, it should be %d", n, len(k.model)-1)
	}
	for _, path := range slices.Sorted(maps.Keys(k.model)) {
		m := k.model[path]
		if z, code := k.tree.Get(path, nil, 0); code != znode.OK || z.Stat.Version != m.version || int(z.Stat.NumChildren) != m.children && path != znode.Root {
			s.fail("%s: %v, %+v; it should be %+v", path, code, z.Stat, m)
		}
		wait, container := lasting(path)
		if wait == 0 || m.children > 0 || container && m.created == 0 {
			continue
		}
		if since := max(m.changed, m.emptied, l.leads, l.steady); s.now > since+wait+reapGrace {
			s.fail("%s is there at the end, %v after its last change; it has %v", path, s.now-m.changed, wait)
		}
	}
}

// What clients do with these paths.

var groupNames = [2]string{"a", "b"}

func groupPath(g, i int) string { return fmt.Sprintf("/g%d/%s", g, groupNames[i]) }

// multi sets the znodes of a group, sometimes with other changes.
func (c *simConn) multi() {
	g := c.rnd.IntN(simGroups)
	var ops []tree.Op
	for _, i := range c.rnd.Perm(len(groupNames)) {
		op := setOp(groupPath(g, i), "")
		op.Flags = tree.OrCreate | tree.Parents
		ops = append(ops, op)
	}
	switch p := c.rnd.IntN(100); {
	case p < 20: // it is impossible
		ops = slices.Insert(ops, c.rnd.IntN(len(ops)+1), []tree.Op{
			removeOp("/none"),
			{Kind: tree.KindCheck, Path: groupPath(g, 0), Version: math.MaxInt32},
			createOp("/none/x", ""),
		}[c.rnd.IntN(3)])
		if c.mutant.is(leavesHalf) {
			c.write(&tree.Txn{Op: ops[0]}, simInput{})
		}
	case p < 50: // it succeeds unless another client comes first
		check := tree.Op{Kind: tree.KindCheck, Path: groupPath(g, 1)}
		c.node.r.View(func(t *tree.Tree, _ *watchTable) {
			z, _ := t.Get(check.Path, nil, 0)
			check.Version = z.Stat.Version
		})
		ops = append([]tree.Op{check}, ops...)
	case p < 65:
		op := createOp(simSequences+"/n-", "")
		op.Mode, op.Flags = znode.PersistentSequential, tree.Parents
		ops = slices.Insert(ops, c.rnd.IntN(len(ops)+1), op)
	case p < 80: // afterwards the container, if it exists, has had a child
		path := fmt.Sprintf("/c%d/x", c.rnd.IntN(simContainers))
		ops = append(ops, createOp(path, ""), removeOp(path))
	}
	if c.mutant.is(splitMulti) && len(ops) == len(groupNames) {
		for _, op := range ops {
			c.write(&tree.Txn{Op: op}, simInput{})
		}
		return
	}
	c.write(multi(ops...), simInput{key: fmt.Sprintf("/g%d", g), write: true})
}

// group reads the znodes of a group.
func group(t *tree.Tree, g int) (values [len(groupNames)]string) {
	for i := range values {
		z, _ := t.Get(groupPath(g, i), nil, 0)
		values[i] = z.Data
	}
	return values
}

// one returns the single value that a group has at any moment.
func (c *simConn) one(g int, values [len(groupNames)]string, zxid znode.Zxid) string {
	if values[0] != values[1] {
		c.fail("node %d shows group %d at %v with %q: half of a transaction", c.node.id, g, zxid, values)
	}
	return values[0]
}

// readGroup checks that a group shows what one transaction has written, and none that was refused.
func (c *simConn) readGroup(t *tree.Tree) {
	g, zxid := c.rnd.IntN(simGroups), t.Counters().Zxid
	values := group(t, g)
	value := c.one(g, values, zxid)
	if value == "" {
		return
	}
	c.seen["groups read"]++
	if a, done := c.check.applied[value]; !done || a.code != znode.OK || a.zxid > zxid {
		c.fail("node %d shows group %d at %v with %q; that is in the log: %t, %+v", c.node.id, g, zxid, value, done, a)
	}
	if c.mutant.is(twoViews) { // read the rest a little later
		n := c.node
		c.after(c.between(0, 5*time.Millisecond), func() {
			n.receive(c.life, func() {
				n.r.View(func(t *tree.Tree, _ *watchTable) {
					rest := group(t, g)
					rest[0] = values[0]
					c.one(g, rest, t.Counters().Zxid)
				})
			})
		})
	}
}

// sequence makes a znode with a number, or deletes one.
func (c *simConn) sequence() {
	if names := c.children(simSequences); len(names) > 0 && c.chance(40+5*len(names)) {
		c.write(remove(simSequences+"/"+names[c.rnd.IntN(len(names))]), simInput{})
		return
	}
	txn := createData(simSequences+"/n-", "")
	txn.Mode, txn.Flags = znode.PersistentSequential, tree.Parents
	switch {
	case c.mutant.is(ownNumbers):
		txn.Mode = znode.Persistent
		txn.Path = fmt.Sprintf("%s%010d", txn.Path, 1+c.highest(simSequences))
	case c.session != 0 && c.chance(30):
		txn.Path, txn.Mode = simSequences+"/e-", znode.EphemeralSequential
	}
	c.write(txn, simInput{})
}

func (c *simConn) children(path string) (names []string) {
	c.node.r.View(func(t *tree.Tree, _ *watchTable) {
		t.Children(path, "", func(name string, _ func() tree.Znode) bool {
			names = append(names, name)
			return true
		})
	})
	return names
}

// highest returns the highest number under a path.
func (c *simConn) highest(path string) (most int) {
	for _, name := range c.children(path) {
		_, digits, _ := strings.Cut(name, "-")
		number, _ := strconv.Atoi(digits)
		most = max(most, number)
	}
	return most
}

// last makes, uses and empties the znodes that the leader deletes.
func (c *simConn) last() {
	i, container := c.rnd.IntN(simContainers), c.chance(50)
	txn := createData(fmt.Sprintf("/t%d", i), "")
	if container {
		txn.Path, txn.Mode = fmt.Sprintf("/c%d", i), znode.Container
	} else {
		txn.Mode, txn.TTLMS = znode.PersistentTTL, ttlOf(i).Milliseconds()
		if c.mutant.is(shortTTL) {
			txn.TTLMS /= 2
		}
	}
	switch p := c.rnd.IntN(100); {
	case p < 40:
	case p < 50:
		txn = set(txn.Path, "")
	case p < 70:
		txn = createData(txn.Path+"/x", "")
		if c.chance(50) {
			txn.Path, txn.Mode = txn.Path[:3]+"/s-", znode.PersistentSequential
		}
	default:
		names := c.children(txn.Path)
		if len(names) == 0 {
			return
		}
		txn = remove(txn.Path + "/" + names[c.rnd.IntN(len(names))])
	}
	c.write(txn, simInput{})
}

func (n *simNode) containerInterval() time.Duration {
	if n.mutant.is(earlyReap) {
		return 0
	}
	return containerInterval
}

// reapWrongly is a mutant: the leader deletes what is not due.
func (n *simNode) reapWrongly() {
	if st := n.r.Status(); st.Role != "leader" || !n.mutant.is(unbornReaped) {
		return
	}
	for i := range simContainers {
		path, unborn := fmt.Sprintf("/c%d", i), false
		n.r.View(func(t *tree.Tree, _ *watchTable) {
			z, code := t.Get(path, nil, 0)
			unborn = code == znode.OK && z.Stat.Cversion == 0
		})
		if unborn {
			n.r.Decide(remove(path), func(tree.Result, *tree.Tree, *watchTable) {})
		}
	}
}

// reapsOtherwise does what a mutant does instead of a deletion.
func (k keeping) reapsOtherwise(x *tree.Txn, done replica.Done) bool {
	n, life := k.simNode, k.life
	switch n.mutant {
	case noReap:
		done(tree.Result{Code: znode.ErrNoLeader}, nil, nil)
	case lateJudged: // decided later, by what is there then
		n.after(n.between(0, time.Second), func() {
			n.receive(life, func() {
				n.r.View(func(t *tree.Tree, _ *watchTable) {
					z, _ := t.Get(x.Path, nil, 0)
					x.Target = int64(z.Stat.Mzxid)
					if z.Owner.Container {
						x.Target = int64(z.Stat.Pzxid)
					}
				})
				n.r.Decide(x, done)
			})
		})
	default:
		return false
	}
	return true
}
