package tree

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"coord/tree/znode"
)

// Apply applies one txn of the log to the state, or refuses it; term is the raft term of its entry.
// It assigns the txn its zxid: epoch<<32 | counter, where the epoch is the replicated offset plus
// the term. Refusals are Results, not errors, and change nothing but the zxid. The events, in the
// order in which watches must see them, are valid until the next Apply.
func (t *Tree) Apply(term uint64, x *Txn) (Result, []znode.Event) {
	t.tick(term, x.TimeMS)
	t.forget()
	var r Result
	switch x.Kind {
	case KindMulti:
		r = t.multi(x)
	case KindSession:
		r = t.openSession(x)
	case KindAttach:
		r = t.attachSession(x)
	case KindClose:
		r = t.closeSession(x)
	case KindSettings:
		t.digest.sub(t.h.counters(t.counters.EpochOffset, t.counters.Settings))
		t.counters.Settings = x.Settings
		t.digest.add(t.h.counters(t.counters.EpochOffset, t.counters.Settings))
	default:
		// A create or set with several effects can fail half-way; the others are checked completely
		// before they change anything.
		if x.Flags == 0 || x.Kind == KindDelete {
			r = t.op(x, &x.Op)
		} else {
			r = t.atomically(func() Result { return t.op(x, &x.Op) })
		}
	}
	t.acls.settle()
	r.Zxid = t.counters.Zxid
	return r, t.events
}

// forget drops the events of the previous txn, and their memory if there were very many.
func (t *Tree) forget() {
	clear(t.events)
	t.events = t.events[:0]
	if cap(t.events) > keepEvents {
		t.events = nil
	}
}

// keepEvents is how much capacity for events, and for undo, is kept for the next txn.
const keepEvents = 4 << 10

// tick advances the zxid and the stamp.
func (t *Tree) tick(term uint64, timeMS int64) {
	c := &t.counters
	switch epoch := uint32(c.EpochOffset + int64(term)); {
	case epoch > c.Zxid.Epoch():
		c.Zxid = znode.MakeZxid(epoch, 1)
	case epoch < c.Zxid.Epoch():
		panic(fmt.Sprintf("tree: apply: epoch %d after %d", epoch, c.Zxid.Epoch()))
	case c.Zxid.Counter() == znode.MaxCounter:
		t.digest.sub(t.h.counters(c.EpochOffset, c.Settings))
		c.EpochOffset++
		t.digest.add(t.h.counters(c.EpochOffset, c.Settings))
		c.Zxid = znode.MakeZxid(epoch+1, 1)
	default:
		c.Zxid++
	}
	c.TimeMS = max(c.TimeMS, timeMS)
}

// atomically runs f, and undoes its changes if it fails.
func (t *Tree) atomically(f func() Result) Result {
	digest := t.digest
	t.undoing = true
	r := f()
	t.undoing = false
	if r.Code != znode.OK {
		for _, back := range slices.Backward(t.undo) {
			back()
		}
		t.digest = digest
		t.events = t.events[:0]
	}
	clear(t.undo)
	t.undo = t.undo[:0]
	if cap(t.undo) > keepEvents {
		t.undo = nil
	}
	return r
}

// later notes how to undo a change.
func (t *Tree) later(back func()) { t.undo = append(t.undo, back) }

func (t *Tree) multi(x *Txn) Result {
	done := make([]Result, 0, len(x.Ops))
	t.inMulti, t.before = true, t.quotasBefore(x.Ops)
	defer func() { t.inMulti, t.before = false, znode.Tops[quota]{} }()
	return t.atomically(func() Result {
		for i := range x.Ops {
			r := t.op(x, &x.Ops[i])
			r.Zxid = t.counters.Zxid
			if r.Code != znode.OK {
				r.Op = i
				return r
			}
			done = append(done, r)
		}
		return Result{Ops: done}
	})
}

// op checks one change and makes it.
func (t *Tree) op(x *Txn, op *Op) Result {
	if op.Kind == KindCreate {
		return t.create(x, op) // checks the mode first
	}
	if code := t.callers(x); code != znode.OK {
		return refuse(code)
	}
	switch op.Kind {
	case KindDelete:
		return t.remove(x, op)
	case KindSetData:
		return t.setData(x, op)
	case KindSetACL:
		return t.setACL(x, op)
	case KindCheck:
		return t.check(x, op)
	case KindReap:
		return t.reap(x, op)
	}
	return refuse(znode.ErrUnimplemented)
}

// callers says whether the caller's session, if there is one, exists and is still attached to the caller.
func (t *Tree) callers(x *Txn) znode.Code {
	switch s, there := t.byID(x.Session); {
	case x.Session == 0:
		return znode.OK
	case !there:
		return znode.ErrSessionExpired
	case s.Attachment != x.Attachment:
		return znode.ErrSessionMoved
	}
	return znode.OK
}

// codeOf is the code in an error of package znode.
func codeOf(err error) znode.Code {
	var c znode.Code
	errors.As(err, &c)
	return c
}

func refuse(c znode.Code) Result { return Result{Code: c} }

// may says whether the caller has a permission on a znode.
func (t *Tree) may(x *Txn, id uint32, need znode.Perms) bool {
	return t.counters.Settings.SkipACL || t.acls.lists[t.at(id).rec.unpack().acl].Allows(x.IDs, need)
}

// above cuts the last component off a path, as ZooKeeper does before it has checked the rest of the path.
func above(path string) (parent string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 || strings.IndexByte(path, 0) >= 0 {
		return "", false
	}
	return path[:i], true
}

// event notes a change for watches. While ACLs are not checked, everyone may see it.
func (t *Tree) event(typ znode.EventType, path string, f *fields) {
	e := znode.Event{Type: typ, Path: path, Zxid: t.counters.Zxid}
	if typ == znode.NodeCreated || typ == znode.NodeDataChanged {
		e.Version, e.Data = f.version, f.data
	}
	if !t.counters.Settings.SkipACL {
		e.ACL = t.acls.lists[f.acl]
	}
	t.events = append(t.events, e)
}

func (t *Tree) create(x *Txn, op *Op) Result {
	var owner int64
	switch mode := op.Mode; {
	case !mode.Valid():
		return refuse(znode.ErrBadArguments)
	case mode.TTL() && !t.counters.Settings.ExtendedTypes:
		return refuse(znode.ErrUnimplemented)
	case mode.TTL():
		if op.TTLMS < 1 || op.TTLMS > znode.MaxTTLMS {
			return refuse(znode.ErrBadArguments)
		}
		owner = znode.TTLOwner(op.TTLMS)
	case mode == znode.Container:
		owner = znode.ContainerOwner
	case mode.Ephemeral():
		if x.Session == 0 {
			return refuse(znode.ErrSessionExpired)
		}
		owner = x.Session
	}
	if code := t.callers(x); code != znode.OK {
		return refuse(code)
	}
	if op.Path == znode.Null {
		return refuse(znode.ErrMarshalling)
	}
	parentPath, ok := above(op.Path)
	if !ok {
		return refuse(znode.ErrBadArguments)
	}
	acl := znode.OpenACL
	if len(op.ACL) != 1 || op.ACL[0] != znode.OpenACL[0] {
		var err error
		if acl, err = op.ACL.Normalize(x.IDs); err != nil {
			return refuse(codeOf(err))
		}
	}
	parent, there := t.find(parentPath)
	if !there {
		if op.Flags&Parents == 0 {
			return refuse(znode.ErrNoNode)
		}
		if znode.CheckCreatePath(op.Path, op.Mode) != nil {
			return refuse(znode.ErrBadArguments)
		}
		var code znode.Code
		if parent, code = t.createParents(x, parentPath); code != znode.OK {
			return refuse(code)
		}
	}
	if !t.may(x, parent, znode.Create) {
		return refuse(znode.ErrNoAuth)
	}
	path := op.Path
	if op.Mode.Sequential() {
		pf := t.at(parent).rec.unpack()
		created, _, _ := t.at(parent).family(&pf)
		path = fmt.Sprintf("%s%010d", path, created)
	}
	if znode.CheckPath(path) != nil {
		return refuse(znode.ErrBadArguments)
	}
	r, _ := t.add(parent, parentPath, path, acl, owner, op.Data)
	return r
}

// createParents creates the missing ancestors and returns the slot of the last one. Each gets its
// parent's ACL, so that access is neither wider nor narrower than before.
func (t *Tree) createParents(x *Txn, path string) (uint32, znode.Code) {
	grand, _ := znode.Split(path)
	parent, there := t.find(grand)
	if !there {
		var code znode.Code
		if parent, code = t.createParents(x, grand); code != znode.OK {
			return 0, code
		}
	}
	if !t.may(x, parent, znode.Create) {
		return 0, znode.ErrNoAuth
	}
	acl := t.acls.lists[t.at(parent).rec.unpack().acl]
	r, id := t.add(parent, grand, path, acl, 0, []byte{})
	return id, r.Code
}

// add is the last part of every create: the checks that need the final path, and the change. It
// returns the new znode's slot too.
func (t *Tree) add(parent uint32, parentPath, path string, acl znode.ACL, owner int64, data []byte) (Result, uint32) {
	if _, there := t.find(path); there {
		return refuse(znode.ErrNodeExists), 0
	}
	pf := t.at(parent).rec.unpack()
	if znode.ExplainOwner(pf.owner).Session != 0 {
		return refuse(znode.ErrNoChildrenForEphemerals), 0
	}
	if !t.quotaAllows(path, int64(len(data)), 1) {
		return refuse(znode.ErrQuotaExceeded), 0
	}
	if parentPath == "" {
		parentPath = znode.Root
	}
	now := t.counters.Zxid
	_, name := znode.Split(path)
	f := fields{
		parent: parent, acl: t.acls.intern(acl), czxid: now, mzxid: now, ctime: t.counters.TimeMS, mtime: t.counters.TimeMS,
		owner: owner, null: data == nil, name: name, data: borrow(data), pzxid: now,
	}
	id := t.insert(parentPath, path, &pf, &f)
	t.event(znode.NodeCreated, path, &f)
	t.event(znode.NodeChildrenChanged, parentPath, &pf)
	t.quotaCreated(parentPath, path, int64(len(data)))
	return Result{Path: path, Stat: stat(&f, 0, now, 0)}, id
}

// insert links a new znode and counts it in its parent. It returns the new slot.
func (t *Tree) insert(parentPath, path string, pf, f *fields) uint32 {
	created, pzxid, _ := t.at(f.parent).family(pf)
	r := t.pack(f)
	id := t.link(path, r, nil)
	d := t.ownDir(f.parent)
	if d.created < math.MaxInt32 { // from there on it stays, as in ZooKeeper since 3.6
		d.created++
	}
	d.pzxid = f.czxid
	t.digest.sub(t.h.stat(parentPath, pf, created, pzxid))
	t.digest.add(t.h.stat(parentPath, pf, d.created, d.pzxid))
	t.digest.add(t.h.stat(path, f, 0, f.czxid))
	t.digest.add(t.h.data(path, f, t.acls.lists[f.acl]))
	if t.undoing {
		parent := f.parent
		t.later(func() {
			t.unlink(id, path)
			d := t.ownDir(parent)
			d.created, d.pzxid = created, pzxid
		})
	}
	return id
}

func (t *Tree) remove(x *Txn, op *Op) Result {
	if op.Path == znode.Null {
		return refuse(znode.ErrMarshalling)
	}
	parentPath, ok := above(op.Path)
	if !ok || znode.Reserved(op.Path) {
		return refuse(znode.ErrBadArguments)
	}
	parent, there := t.find(parentPath)
	if !there {
		return refuse(znode.ErrNoNode)
	}
	if !t.may(x, parent, znode.Delete) {
		return refuse(znode.ErrNoAuth)
	}
	id, there := t.find(op.Path)
	if !there {
		return refuse(znode.ErrNoNode)
	}
	if have := t.at(id).rec.unpack().version; op.Version != AnyVersion && op.Version != have {
		return Result{Code: znode.ErrBadVersion, Have: have}
	}
	if d := t.at(id).dir; d != nil && d.count > 0 {
		if op.Flags&Recursive == 0 {
			return refuse(znode.ErrNotEmpty)
		}
		return t.removeAll(x, id, op)
	}
	t.drop(id, op.Path)
	return Result{}
}

// removeAll deletes a znode and everything below it, deepest first.
func (t *Tree) removeAll(x *Txn, top uint32, op *Op) Result {
	doomed := make([]uint32, 0, 16) // parents before children
	doomed = append(doomed, top)
	for i := 0; i < len(doomed); i++ {
		d := t.at(doomed[i]).dir
		if d == nil || d.count == 0 {
			continue
		}
		if len(doomed)+int(d.count) > int(op.Limit) {
			return refuse(znode.ErrLimit)
		}
		if !t.may(x, doomed[i], znode.Delete) {
			return refuse(znode.ErrNoAuth)
		}
		for id := range d.children.all {
			doomed = append(doomed, id)
		}
	}
	t.events = slices.Grow(t.events, 2*len(doomed))
	for _, id := range slices.Backward(doomed) {
		t.drop(id, t.path(id))
	}
	return Result{}
}

// drop is the last part of every delete: the change and its events. The znode has no children, and
// its deletion has been permitted.
func (t *Tree) drop(id uint32, path string) {
	f := t.at(id).rec.unpack()
	created, pzxid, _ := t.at(id).family(&f)
	parentPath, _ := znode.Split(path)
	pf := t.at(f.parent).rec.unpack()
	pcreated, ppzxid, _ := t.at(f.parent).family(&pf)
	now := t.counters.Zxid

	acl := t.acls.lists[f.acl]
	t.digest.sub(t.h.stat(path, &f, created, pzxid))
	t.digest.sub(t.h.data(path, &f, acl))
	rec, dir := t.unlink(id, path)
	d := t.ownDir(f.parent)
	d.pzxid = max(d.pzxid, now)
	t.digest.sub(t.h.stat(parentPath, &pf, pcreated, ppzxid))
	t.digest.add(t.h.stat(parentPath, &pf, d.created, d.pzxid))
	if t.undoing {
		t.later(func() {
			t.link(path, rec, dir)
			t.ownDir(f.parent).pzxid = ppzxid
		})
	}
	t.event(znode.NodeDeleted, path, &f)
	t.event(znode.NodeChildrenChanged, parentPath, &pf)
	t.quotaDeleted(parentPath, path, int64(len(f.data)))
}

func (t *Tree) setData(x *Txn, op *Op) Result {
	if znode.CheckPath(op.Path) != nil {
		return refuse(znode.ErrBadArguments)
	}
	id, there := t.find(op.Path)
	if !there {
		if op.Flags&OrCreate == 0 || op.Version != AnyVersion {
			return refuse(znode.ErrNoNode)
		}
		return t.create(x, &Op{Kind: KindCreate, Flags: op.Flags & Parents, Path: op.Path, Data: op.Data, ACL: znode.OpenACL})
	}
	if !t.may(x, id, znode.Write) {
		return refuse(znode.ErrNoAuth)
	}
	f := t.at(id).rec.unpack()
	diff := int64(len(op.Data)) - int64(len(f.data))
	if !t.quotaAllows(op.Path, diff, 0) {
		return refuse(znode.ErrQuotaExceeded)
	}
	if op.Version != AnyVersion && op.Version != f.version {
		return Result{Code: znode.ErrBadVersion, Have: f.version}
	}
	g := f
	g.mzxid, g.mtime = t.counters.Zxid, t.counters.TimeMS
	g.version++
	g.null, g.data = op.Data == nil, borrow(op.Data)
	t.replace(id, op.Path, &f, &g)
	t.event(znode.NodeDataChanged, op.Path, &g)
	t.quotaChanged(op.Path, diff, 0)
	created, pzxid, count := t.at(id).family(&g)
	return Result{Path: op.Path, Stat: stat(&g, created, pzxid, count)}
}

func (t *Tree) setACL(x *Txn, op *Op) Result {
	if znode.CheckPath(op.Path) != nil {
		return refuse(znode.ErrBadArguments)
	}
	acl, err := op.ACL.Normalize(x.IDs)
	if err != nil {
		return refuse(codeOf(err))
	}
	id, there := t.find(op.Path)
	if !there {
		return refuse(znode.ErrNoNode)
	}
	if !t.may(x, id, znode.Admin) {
		return refuse(znode.ErrNoAuth)
	}
	f := t.at(id).rec.unpack()
	if op.Version != AnyVersion && op.Version != f.avers {
		return Result{Code: znode.ErrBadVersion, Have: f.avers}
	}
	g := f
	g.avers++
	g.acl = t.acls.intern(acl)
	t.replace(id, op.Path, &f, &g)
	created, pzxid, count := t.at(id).family(&g)
	return Result{Path: op.Path, Stat: stat(&g, created, pzxid, count)}
}

// replace changes a znode's record; its parent and name stay.
func (t *Tree) replace(id uint32, path string, f, g *fields) {
	created, pzxid, _ := t.at(id).family(f)
	t.digest.sub(t.h.stat(path, f, created, pzxid))
	t.digest.add(t.h.stat(path, g, created, pzxid))
	if f.data != g.data || f.null != g.null || f.acl != g.acl {
		t.digest.sub(t.h.data(path, f, t.acls.lists[f.acl]))
		t.digest.add(t.h.data(path, g, t.acls.lists[g.acl]))
	}
	old := t.at(id).rec
	t.put(id, t.pack(g))
	if t.undoing {
		t.later(func() { t.put(id, old) })
	}
}

// put stores a record in a slot that is in use.
func (t *Tree) put(id uint32, r record) {
	s := t.own(id)
	f, g := s.rec.unpack(), r.unpack()
	t.acls.ref(g.acl)
	t.acls.unref(f.acl)
	t.bytes += int64(len(g.data)) - int64(len(f.data))
	s.rec = r
}

func (t *Tree) check(x *Txn, op *Op) Result {
	if znode.CheckPath(op.Path) != nil {
		return refuse(znode.ErrBadArguments)
	}
	id, there := t.find(op.Path)
	if !there {
		return refuse(znode.ErrNoNode)
	}
	if !t.may(x, id, znode.Read) {
		return refuse(znode.ErrNoAuth)
	}
	if have := t.at(id).rec.unpack().version; op.Version != AnyVersion && op.Version != have {
		return Result{Code: znode.ErrBadVersion, Have: have}
	}
	return Result{}
}

// reap deletes a container or TTL znode if it is still as the leader saw it: Target is the
// container's pzxid, or the TTL znode's mzxid.
func (t *Tree) reap(x *Txn, op *Op) Result {
	id, there := t.find(op.Path)
	if !there {
		return refuse(znode.ErrNoNode)
	}
	f := t.at(id).rec.unpack()
	created, pzxid, count := t.at(id).family(&f)
	o, seen := znode.ExplainOwner(f.owner), znode.Zxid(x.Target)
	switch {
	case count > 0:
		return refuse(znode.ErrNotEmpty)
	case o.Container && created > 0 && pzxid == seen, o.TTLMS != 0 && f.mzxid == seen:
		t.drop(id, op.Path)
		return Result{}
	}
	return refuse(znode.ErrBadVersion)
}

func (t *Tree) openSession(x *Txn) Result {
	if len(x.Password) != len(Session{}.Password) || !znode.ValidSession(x.Target) {
		return refuse(znode.ErrBadArguments)
	}
	p, i, there := t.seekSession(x.Target)
	if there {
		return refuse(znode.ErrNodeExists)
	}
	s := Session{ID: x.Target, TimeoutMS: x.TimeoutMS, Password: [16]byte(x.Password)}
	t.sessions.insert(t.gen, p, i, s)
	t.digest.add(t.h.session(&s))
	return Result{}
}

// attachSession gives a session to a caller that knows its password, and sets its timeout: from now
// on, nothing counts that comes through an earlier attachment. A caller that already has the
// session, and says so, keeps its attachment: then only the timeout is set.
func (t *Tree) attachSession(x *Txn) Result {
	p, i, there := t.seekSession(x.Target)
	if !there {
		return refuse(znode.ErrSessionExpired)
	}
	s := t.sessions.pieces[p].items[i]
	if string(x.Password) != string(s.Password[:]) {
		return refuse(znode.ErrAuthFailed)
	}
	has := x.Session == x.Target
	if code := t.callers(x); has && code != znode.OK {
		return refuse(code)
	}
	t.digest.sub(t.h.session(&s))
	if x.TimeoutMS != 0 {
		s.TimeoutMS = x.TimeoutMS
	}
	if !has {
		s.Attachment++
		t.events = append(t.events, znode.Event{Type: znode.SessionMoved, Zxid: t.counters.Zxid, Session: s.ID})
	}
	t.sessions.replace(t.gen, p, i, s)
	t.digest.add(t.h.session(&s))
	return Result{Attachment: s.Attachment}
}

// closeSession ends a session and deletes its ephemerals, in the order of their paths. A close in
// the session's own name is refused if the session has moved.
func (t *Tree) closeSession(x *Txn) Result {
	if code := t.callers(x); code != znode.OK {
		return refuse(code)
	}
	p, i, there := t.seekSession(x.Target)
	if !there {
		return refuse(znode.ErrSessionExpired)
	}
	type own struct {
		id   uint32
		path string
	}
	var all []own
	for id := range t.owners[x.Target] {
		all = append(all, own{id, t.path(id)})
	}
	slices.SortFunc(all, func(a, b own) int { return strings.Compare(a.path, b.path) })
	t.events = slices.Grow(t.events, 2*len(all)+1)
	for _, o := range all {
		t.drop(o.id, o.path)
	}
	s := t.sessions.pieces[p].items[i]
	t.digest.sub(t.h.session(&s))
	t.sessions.remove(t.gen, p, i)
	t.events = append(t.events, znode.Event{Type: znode.SessionEnded, Zxid: t.counters.Zxid, Session: s.ID})
	return Result{}
}
