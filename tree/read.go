package tree

import (
	"cmp"
	"slices"
	"strings"

	"coord/tree/znode"
)

// Znode is the result of a read. Data shares the tree's memory.
type Znode struct {
	Stat  znode.Stat
	Data  string
	Null  bool // the data is null, not empty
	ACL   znode.ACL
	Owner znode.Owner
}

func stat(f *fields, created int32, pzxid znode.Zxid, count int32) znode.Stat {
	return znode.Stat{
		Czxid: f.czxid, Mzxid: f.mzxid, Pzxid: pzxid, CtimeMS: f.ctime, MtimeMS: f.mtime,
		Version: f.version, Cversion: 2*created - count, Aversion: f.avers,
		EphemeralOwner: znode.ExplainOwner(f.owner).Session, DataLength: int32(len(f.data)), NumChildren: count,
	}
}

// Get finds a znode. The code is OK, ErrNoNode, or ErrNoAuth if ids have none of the permissions in
// need (0 requires none).
func (t *Tree) Get(path string, ids []znode.Identity, need znode.Perms) (Znode, znode.Code) {
	id, there := t.find(path)
	if !there {
		return Znode{}, znode.ErrNoNode
	}
	f := t.at(id).rec.unpack()
	acl := t.acls.lists[f.acl]
	if need != 0 && !t.counters.Settings.SkipACL && !acl.Allows(ids, need) {
		return Znode{}, znode.ErrNoAuth
	}
	return t.znode(id, &f), znode.OK
}

func (t *Tree) znode(id uint32, f *fields) Znode {
	created, pzxid, count := t.at(id).family(f)
	return Znode{stat(f, created, pzxid, count), f.data, f.null, t.acls.lists[f.acl], znode.ExplainOwner(f.owner)}
}

// Children yields, in byte order, the names of a znode's children that are greater than after, each
// with a function that reads the child.
func (t *Tree) Children(path, after string, yield func(name string, child func() Znode) bool) {
	id, there := t.find(path)
	if !there {
		return
	}
	d := t.at(id).dir
	if d == nil {
		return
	}
	p, i, found := t.seekChild(d, after)
	if found {
		i++
	}
	d.children.from(p, i, func(id uint32) bool {
		f := t.at(id).rec.unpack()
		return yield(f.name, func() Znode { return t.znode(id, &f) })
	})
}

// Walk yields the paths below path (and path itself first) depth-first, children in byte order of
// their names. It yields only paths greater than after in that order; after is "" for all. depth
// counts levels below path; negative means all. A subtree whose top ids may not list (READ) is not
// entered; its top is yielded.
func (t *Tree) Walk(path, after string, depth int, ids []znode.Identity, yield func(path string, z func() Znode) bool) {
	id, there := t.find(path)
	if !there {
		return
	}
	if path == "" {
		path = znode.Root
	}
	if after != "" && !znode.Below(after, path) {
		if walkOrder(after, path) > 0 {
			return
		}
		after = ""
	}
	t.walk(id, path, after, depth, ids, yield)
}

// walkOrder compares two paths in the order of Walk: component by component.
func walkOrder(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func (t *Tree) walk(id uint32, path, after string, depth int, ids []znode.Identity, yield func(string, func() Znode) bool) bool {
	f := t.at(id).rec.unpack()
	if after == "" && !yield(path, func() Znode { return t.znode(id, &f) }) {
		return false
	}
	d := t.at(id).dir
	if d == nil || depth == 0 || !t.counters.Settings.SkipACL && !t.acls.lists[f.acl].Allows(ids, znode.Read) {
		return true
	}
	// If after is below path, begin at the child on the way to it.
	p, i, first := 0, 0, ""
	if after != "" && after != path && znode.Below(after, path) {
		first, _, _ = strings.Cut(strings.TrimPrefix(after[len(path):], "/"), "/")
		var found bool
		if p, i, found = t.seekChild(d, first); !found {
			first = ""
		}
	}
	return d.children.from(p, i, func(id uint32) bool {
		_, name := t.at(id).rec.place()
		rest := ""
		if first != "" && name == first {
			rest = after
		}
		return t.walk(id, znode.Join(path, name), rest, depth-1, ids, yield)
	})
}

// seekSession finds a session's place in the list.
func (t *Tree) seekSession(id int64) (p, i int, found bool) {
	return t.sessions.seek(func(s Session) int { return cmp.Compare(s.ID, id) })
}

func (t *Tree) byID(id int64) (Session, bool) {
	p, i, found := t.seekSession(id)
	if !found {
		return Session{}, false
	}
	return t.sessions.pieces[p].items[i], true
}

// Session returns a session's record.
func (t *Tree) Session(id int64) (Session, bool) { return t.byID(id) }

// Sessions yields the sessions with ids above after, in the order of their ids, with the number of their ephemerals.
func (t *Tree) Sessions(after int64, yield func(s Session, ephemerals int) bool) {
	p, i, found := t.seekSession(after)
	if found {
		i++
	}
	t.sessions.from(p, i, func(s Session) bool { return yield(s, len(t.owners[s.ID])) })
}

// Ephemerals returns the paths of a session's ephemerals, in byte order.
func (t *Tree) Ephemerals(session int64) []string {
	paths := make([]string, 0, len(t.owners[session]))
	for id := range t.owners[session] {
		paths = append(paths, t.path(id))
	}
	slices.Sort(paths)
	return paths
}

// Counts are sizes for monitoring.
type Counts struct {
	Znodes     int
	DataBytes  int64 // of all paths and data
	Sessions   int
	Ephemerals int
	Reapable   int // container and TTL znodes
}

// Counts returns the present sizes.
func (t *Tree) Counts() Counts {
	return Counts{Znodes: t.count, DataBytes: t.bytes, Sessions: t.sessions.len(), Ephemerals: t.owned, Reapable: t.reapable.len()}
}

// Counters returns the counters; Counters().Zxid is the last txn applied.
func (t *Tree) Counters() Counters { return t.counters }

// Digest returns the digest of the whole state.
func (t *Tree) Digest() Digest { return t.digest }

// Reapable is a container or TTL znode without children. The leader proposes its deletion
// (KindReap, with Seen as the Target) when it has been so for TTLMS, or for the container interval.
type Reapable struct {
	Path  string
	Seen  znode.Zxid
	TTLMS int64 // 0 for a container
}

// Reapables looks at up to n container and TTL znodes, beginning at place from, and returns the
// candidates among them and the place to continue at. 0 is the first place, and as next it means
// the end. Places are this node's own and mean nothing to another node.
func (t *Tree) Reapables(from uint32, n int) (found []Reapable, next uint32) {
	p, i, _ := t.seekReapable(from)
	t.reapable.from(p, i, func(id uint32) bool {
		if n == 0 {
			next = id
			return false
		}
		n--
		f := t.at(id).rec.unpack()
		created, pzxid, count := t.at(id).family(&f)
		o := znode.ExplainOwner(f.owner)
		if count > 0 || o.Container && created == 0 {
			return true
		}
		r := Reapable{Path: t.path(id), TTLMS: o.TTLMS, Seen: f.mzxid}
		if o.Container {
			r.Seen = pzxid
		}
		found = append(found, r)
		return true
	})
	return found, next
}
