package frontend

import (
	"strings"

	"coord/server/watch"
	"coord/server/zkproto"
	"coord/tree"
	"coord/tree/znode"
)

// zkAsk is a request that changes nothing.
type zkAsk struct {
	xid   int32
	op    zkproto.Op
	kind  int32 // of a watch, see zkproto.Request
	watch bool
	code  znode.Code // not OK: the request is refused already
	path  string
	owner int64          // of getEphemerals: the session, which the connection may have left by its turn
	below int32          // of getAllChildrenNumber: the number of descendants
	parts []zkproto.Part // of a multiRead
	seen  znode.Zxid     // of setWatches
	lists *[5][]string   // the same
}

// isRead says whether the answer shows any of the state.
func (a *zkAsk) isRead() bool {
	return a.code == znode.OK && a.op != zkproto.OpPing && a.op != zkproto.OpAuth && a.op != zkproto.OpSASL
}

// appendRead executes a request and appends its answer. The state lock and the connection's lock
// are held. A nil tree means that the state is not known.
func (c *zkConn) appendRead(b []byte, a *zkAsk, ids []znode.Identity, t *tree.Tree, table *watch.Table) []byte {
	var zxid znode.Zxid
	if t != nil {
		zxid = t.Counters().Zxid
	}
	switch {
	case a.op == zkproto.OpAuth || a.op == zkproto.OpSASL:
		zxid = 0
	case a.code == znode.ErrUnimplemented:
		zxid = zkproto.NoZxid
	}
	if isLoss(a.code) {
		return b // the connection ends
	}
	r := zkReader{zkAsk: a, c: c, ids: ids, t: t, table: table}
	if a.lists != nil && a.code == znode.OK {
		b = r.setWatches(b)
	}
	xid := a.xid
	if a.op == zkproto.OpPing {
		xid = zkproto.XidPing
	}
	start := len(b)
	body, code := zkproto.BeginReply(b, xid, zxid), a.code
	if code == znode.OK {
		body, code = r.read(body)
	}
	if code != znode.OK {
		return zkproto.AppendReply(body[:start], xid, zxid, code)
	}
	zkproto.EndFrame(body, start)
	return body
}

// zkReader executes one request.
type zkReader struct {
	*zkAsk
	c     *zkConn
	ids   []znode.Identity
	t     *tree.Tree
	table *watch.Table
}

// read appends the body of the answer, or returns the error code.
func (r *zkReader) read(b []byte) ([]byte, znode.Code) {
	switch r.op {
	case zkproto.OpExists:
		return r.exists(b)
	case zkproto.OpGetData:
		return r.getData(b, r.path, r.watch)
	case zkproto.OpGetChildren, zkproto.OpGetChildren2:
		return r.getChildren(b, r.path, r.watch)
	case zkproto.OpGetACL:
		return r.getACL(b)
	case zkproto.OpSync:
		if r.path == znode.Null {
			return zkproto.AppendNull(b), znode.OK
		}
		return zkproto.AppendString(b, zkproto.ToJava(r.path)), znode.OK
	case zkproto.OpMultiRead:
		return r.multiRead(b), znode.OK
	case zkproto.OpGetEphemerals:
		return r.getEphemerals(b), znode.OK
	case zkproto.OpGetAllChildrenNumber:
		return r.getAllChildrenNumber(b)
	case zkproto.OpWhoAmI:
		return r.whoAmI(b), znode.OK
	case zkproto.OpCheckWatches:
		return b, watcherCode(r.table.Has(r.c, watched(r.path), watch.Type(r.kind)))
	case zkproto.OpRemoveWatches:
		if r.path == znode.Null {
			return b, znode.ErrNoWatcher
		}
		return b, watcherCode(r.table.Remove(r.c, watched(r.path), watch.Type(r.kind)))
	case zkproto.OpAddWatch:
		kind := watch.Persistent
		if r.kind == zkproto.AddRecursive {
			kind = watch.PersistentRecursive
		}
		return zkproto.AppendInt(b, 0), r.arm(r.path, kind)
	case zkproto.OpReconfig:
		if r.c.s.cfg.ReconfigEnabled { // refused as by a standalone ZooKeeper
			return b, znode.ErrUnimplemented
		}
		return b, znode.ErrReconfigDisabled
	case zkproto.OpSASL: // there is no login: an empty token, like a ZooKeeper without SASL
		return zkproto.AppendNull(b), znode.OK
	}
	return b, znode.OK // OpPing, OpAuth, OpSetWatches
}

func watcherCode(there bool) znode.Code {
	if there {
		return znode.OK
	}
	return znode.ErrNoWatcher
}

// watched returns the path at which ZooKeeper keeps a requested watch. No znode has a name that is
// not UTF-8, but watches may be at such paths.
func watched(path string) string {
	if path == znode.Null {
		return path
	}
	return zkproto.FromJava(path)
}

// arm registers a watch. ZooKeeper has no limit on watches: a client that reaches ours is
// disconnected, and may find another node less busy. A path longer than any znode's, which may be
// as long as a frame, never has events, so it is not registered.
func (r *zkReader) arm(path string, kind watch.Kind) znode.Code {
	path = watched(path)
	if len(path) > znode.MaxPathBytes {
		return znode.OK
	}
	if err := r.table.Add(r.c, path, kind); err != nil {
		r.c.s.stats.limitsReached.Add(1)
		r.c.mu.ending = true
		r.c.interrupt()
		return znode.ErrLimit
	}
	return znode.OK
}

func (r *zkReader) exists(b []byte) ([]byte, znode.Code) {
	if strings.IndexByte(r.path, 0) >= 0 {
		return b, znode.ErrBadArguments
	}
	z, code := r.t.Get(r.path, r.ids, znode.Read)
	if r.watch && code != znode.ErrNoAuth {
		if failed := r.arm(r.path, watch.Exist); failed != znode.OK {
			return b, failed
		}
	}
	if code != znode.OK {
		return b, code
	}
	return zkproto.AppendStat(b, &z.Stat), znode.OK
}

func (r *zkReader) getData(b []byte, path string, armed bool) ([]byte, znode.Code) {
	z, code := r.t.Get(path, r.ids, znode.Read)
	if code == znode.OK && armed {
		code = r.arm(path, watch.Data)
	}
	if code != znode.OK {
		return b, code
	}
	if z.Null {
		b = zkproto.AppendNull(b)
	} else {
		b = zkproto.AppendString(grow(b, len(z.Data)), z.Data)
	}
	return zkproto.AppendStat(b, &z.Stat), znode.OK
}

// getChildren lists the names, followed by the stat for OpGetChildren2.
func (r *zkReader) getChildren(b []byte, path string, armed bool) ([]byte, znode.Code) {
	z, code := r.t.Get(path, r.ids, znode.Read)
	if code == znode.OK && armed {
		code = r.arm(path, watch.Children)
	}
	if code != znode.OK {
		return b, code
	}
	b = zkproto.AppendInt(b, z.Stat.NumChildren)
	r.t.Children(path, "", func(name string, _ func() tree.Znode) bool {
		b = zkproto.AppendString(grow(b, len(name)), name)
		return true
	})
	if r.op == zkproto.OpGetChildren2 {
		b = zkproto.AppendStat(b, &z.Stat)
	}
	return b, znode.OK
}

func (r *zkReader) getACL(b []byte) ([]byte, znode.Code) {
	z, code := r.t.Get(r.path, r.ids, znode.Read|znode.Admin)
	if code != znode.OK {
		return b, code
	}
	return zkproto.AppendStat(zkproto.AppendACL(b, mapIDs(shownACL(r.t, &z, r.ids), zkproto.ToJava)), &z.Stat), znode.OK
}

// shownACL hides the password hashes from clients that may not change the list.
func shownACL(t *tree.Tree, z *tree.Znode, ids []znode.Identity) znode.ACL {
	if t.Counters().Settings.SkipACL || z.ACL.Allows(ids, znode.Admin) {
		return z.ACL
	}
	return z.ACL.Redacted()
}

// multiRead executes its parts until the answer is so long that the rest is refused: a frame of
// some KB could ask for a GB.
func (r *zkReader) multiRead(b []byte) []byte {
	begin := len(b)
	for i := range r.parts {
		p := &r.parts[i]
		start := len(b)
		var code znode.Code
		b = zkproto.AppendMultiResult(b, p.Op)
		switch {
		case start-begin >= MaxOutboxBytes:
			code = znode.ErrTooBig
		case p.Op == zkproto.OpGetData:
			b, code = r.getData(b, p.Path, false)
		default:
			b, code = r.getChildren(b, p.Path, false)
		}
		if code != znode.OK {
			b = zkproto.AppendMultiError(b[:start], code)
		}
	}
	return zkproto.AppendMultiEnd(b)
}

func (r *zkReader) getEphemerals(b []byte) []byte {
	paths := r.t.Ephemerals(r.owner)
	// Java's trim removes the ASCII control characters and spaces.
	trimmed := strings.TrimFunc(r.path, func(c rune) bool { return c <= ' ' })
	if trimmed != "" && trimmed != znode.Root {
		kept := paths[:0]
		for _, p := range paths {
			if strings.HasPrefix(p, r.path) {
				kept = append(kept, p)
			}
		}
		paths = kept
	}
	return zkproto.AppendStrings(b, paths)
}

// getAllChildrenNumber returns the number of descendants, whether the client may read them or not.
func (r *zkReader) getAllChildrenNumber(b []byte) ([]byte, znode.Code) {
	if _, code := r.t.Get(r.path, r.ids, znode.Read); code != znode.OK {
		return b, code
	}
	switch r.path {
	case znode.Root:
		r.below = int32(r.t.Counts().Znodes) - 1
	case "": // the root under another name: ZooKeeper counts the paths that begin with /, and so includes /
		r.below = int32(r.t.Counts().Znodes)
	}
	return zkproto.AppendInt(b, r.below), znode.OK
}

// countBelow counts the descendants of a path in steps: a View delays writes, and a done even more.
// Concurrent changes may be counted or not, as in ZooKeeper.
func (c *zkConn) countBelow(path string) (n int32) {
	if path == znode.Root || path == "" { // known without counting, see getAllChildrenNumber
		return 0
	}
	for after, more := path, true; more; {
		more = false
		c.s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
			looks := 0
			t.Walk(path, after, -1, everybody, func(path string, _ func() tree.Znode) bool {
				if more = looks == countStep; more {
					return false
				}
				looks++
				n, after = n+1, path
				return true
			})
		})
	}
	return n
}

// whoAmI lists the identities; of a digest it shows the user only.
func (r *zkReader) whoAmI(b []byte) []byte {
	names := make([]znode.Identity, len(r.ids))
	for i, id := range r.ids {
		if id.Scheme == znode.SchemeDigest {
			id.ID, _, _ = strings.Cut(id.ID, ":")
			id.ID = zkproto.ToJava(id.ID)
		}
		names[i] = id
	}
	return zkproto.AppendIdentities(b, names)
}

// setWatches executes the request of a client that has reconnected. For each watch it had, the
// client gets an event, before the answer, if the znode has changed since; otherwise the watch is
// armed again.
func (r *zkReader) setWatches(b []byte) []byte {
	for i, list := range r.lists {
		kind := watch.Kind(i + 1)
		for _, path := range list {
			if path == znode.Null { // ZooKeeper comes this far, and no further
				r.code = znode.ErrMarshalling
				return b
			}
			if typ := r.missed(path, kind); typ != 0 {
				b = zkproto.AppendEvent(b, typ, zkproto.ToJava(path), zkproto.NoZxid)
			} else if code := r.arm(path, kind); code != znode.OK {
				r.code = code
				return b
			}
		}
	}
	return b
}

// missed returns the event that a watch would have delivered since, or 0. ACLs are not checked: they
// were when the client set the watch.
func (r *zkReader) missed(path string, kind watch.Kind) znode.EventType {
	z, code := r.t.Get(path, nil, 0)
	return kind.Missed(r.seen, code == znode.OK, &z.Stat)
}

// appendAnswer appends the outcome of a write. A connection loss has no reply: the connection is
// closed.
func (w *zkWrite) appendAnswer(b []byte, t *tree.Tree, _ *watch.Table) []byte {
	zxid := w.result.Zxid
	if zxid == 0 && t != nil { // the txn has not reached the tree
		zxid = t.Counters().Zxid
	}
	failedMulti := w.op == zkproto.OpMulti && w.code != znode.OK && isVerdict(w.code) && w.result.Op < len(w.txn.Ops)
	if failedMulti && w.txn.Ops[w.result.Op].TTLMS == noTTL {
		w.code = znode.ErrMarshalling // where ZooKeeper fails to decode it, the whole request fails
	}
	failedMulti = failedMulti && w.code != znode.ErrMarshalling
	switch {
	case isLoss(w.code):
		return b
	case w.code != znode.OK && !failedMulti:
		return zkproto.AppendReply(b, w.xid, zxid, w.code)
	}
	start := len(b)
	b = zkproto.BeginReply(b, w.xid, zxid)
	switch {
	case failedMulti:
		b = w.appendFailure(b)
	case w.op == zkproto.OpMulti:
		for i := range w.result.Ops {
			op, r := &w.txn.Ops[i], &w.result.Ops[i]
			b = appendZKResult(zkproto.AppendMultiResult(b, resultOp(op)), resultOp(op), r)
		}
		b = zkproto.AppendMultiEnd(b)
	default:
		b = appendZKResult(b, w.op, &w.result)
	}
	zkproto.EndFrame(b, start)
	return b
}

// appendFailure appends the outcome of each operation of a multi that was not done.
func (w *zkWrite) appendFailure(b []byte) []byte {
	for i := range w.txn.Ops {
		code := znode.OK // it was undone
		switch {
		case i == w.result.Op:
			code = w.code
		case i > w.result.Op:
			code = znode.ErrRuntimeInconsistency
		}
		b = zkproto.AppendMultiError(b, code)
	}
	return zkproto.AppendMultiEnd(b)
}

// resultOp is the operation as which ZooKeeper answers an operation in a multi: it depends on the
// mode of a create, not on what was sent.
func resultOp(op *tree.Op) zkproto.Op {
	switch op.Kind {
	case tree.KindDelete:
		return zkproto.OpDelete
	case tree.KindSetData:
		return zkproto.OpSetData
	case tree.KindCheck:
		return zkproto.OpCheck
	}
	if op.Mode == znode.Container || op.Mode.TTL() {
		return zkproto.OpCreate2
	}
	return zkproto.OpCreate
}

// appendZKResult appends the body of the answer to a successful write.
func appendZKResult(b []byte, op zkproto.Op, r *tree.Result) []byte {
	switch op {
	case zkproto.OpCreate:
		b = zkproto.AppendString(b, r.Path)
	case zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		b = zkproto.AppendStat(zkproto.AppendString(b, r.Path), &r.Stat)
	case zkproto.OpSetData, zkproto.OpSetACL:
		b = zkproto.AppendStat(b, &r.Stat)
	}
	return b
}
