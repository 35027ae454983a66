package tree

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"unsafe"

	"coord/tree/znode"
)

// Node is one znode as snapshots hold it: everything but what follows from other znodes (its
// children and their number).
type Node struct {
	Path             string
	Data             []byte // nil is null, which is not the same as empty
	ACL              znode.ACL
	Czxid            znode.Zxid
	Mzxid            znode.Zxid
	Pzxid            znode.Zxid
	CtimeMS, MtimeMS int64
	Version          int32
	Aversion         int32
	Created          int32 // children ever created here: the number in the next sequential name
	Owner            int64 // as stored: see znode.ExplainOwner
}

// Session is one session's replicated record.
type Session struct {
	ID        int64
	TimeoutMS int32
	Password  [16]byte

	// Attachment counts how often another connection has taken the session over. What comes through an earlier
	// attachment is refused, on whichever node: it must not be applied after what came through the new one.
	Attachment uint32
}

// Counters are the parts of the state that belong to no znode or session.
type Counters struct {
	Zxid        znode.Zxid // the last txn applied
	EpochOffset int64      // epoch = offset + raft term
	TimeMS      int64      // the last stamp seen
	Settings    Settings
}

// Frozen is the whole state at one zxid. It does not change while the tree does, and any goroutine may read it.
type Frozen struct {
	t Tree // only what reading needs; its blocks are never written again
}

// Freeze returns the present state. It costs a copy of the page table: microseconds, whatever the size of the data.
func (t *Tree) Freeze() *Frozen {
	f := &Frozen{Tree{
		pages: slices.Clone(t.pages), count: t.count, bytes: t.bytes, counters: t.counters, digest: t.digest,
		acls: aclTable{lists: slices.Clone(t.acls.lists)}, sessions: t.sessions.clone(),
	}}
	t.gen++
	return f
}

// Counters returns the counters; Counters().Zxid is the moment of the freeze.
func (f *Frozen) Counters() Counters { return f.t.counters }

// Digest is the digest of the whole state.
func (f *Frozen) Digest() Digest { return f.t.digest }

// Len is the number of znodes, including the root and the system's own.
func (f *Frozen) Len() int { return f.t.count }

// DataBytes is the size of all paths and data.
func (f *Frozen) DataBytes() int64 { return f.t.bytes }

// Nodes yields the znodes under top (and top itself) depth-first, children in byte order of their names.
// The Node and its Data are valid until yield returns. Its ACL is shared: equal lists are the same slice.
func (f *Frozen) Nodes(top string, yield func(*Node) bool) {
	f.Each(top, func(n *Node) bool {
		n.Path = strings.Clone(n.Path)
		return yield(n)
	})
}

// Each is Nodes without a copy of each path: the Node's Path, too, is valid only until yield
// returns. So writing a million znodes while clients are served makes no garbage for which the
// collector would stop the clients.
func (f *Frozen) Each(top string, yield func(*Node) bool) {
	id, there := f.descend(top)
	if !there || znode.CheckPath(top) != nil {
		return
	}
	var n Node
	data := make([]byte, 0, 256)
	path := []byte(top)
	var walk func(id uint32) bool
	walk = func(id uint32) bool {
		s := f.t.at(id)
		r := s.rec.unpack()
		created, pzxid, _ := s.family(&r)
		n = Node{
			Path: unsafe.String(unsafe.SliceData(path), len(path)), // path changes only after yield has returned
			ACL:  f.t.acls.lists[r.acl], Czxid: r.czxid, Mzxid: r.mzxid, Pzxid: pzxid,
			CtimeMS: r.ctime, MtimeMS: r.mtime, Version: r.version, Aversion: r.avers, Created: created, Owner: r.owner,
		}
		if !r.null {
			data = append(data[:0], r.data...)
			n.Data = data
		}
		if !yield(&n) {
			return false
		}
		if s.dir == nil {
			return true
		}
		length := len(path)
		return s.dir.children.from(0, 0, func(id uint32) bool {
			_, name := f.t.at(id).rec.place()
			if length > len(znode.Root) {
				path = append(path[:length], '/')
			}
			path = append(path, name...)
			deeper := walk(id)
			path = path[:length]
			return deeper
		})
	}
	walk(id)
}

// descend finds a path without the index, of which a Frozen has no copy.
func (f *Frozen) descend(path string) (uint32, bool) {
	if path == znode.Root {
		return rootSlot, true
	}
	parentPath, name := znode.Split(path)
	if parentPath == "" {
		return 0, false
	}
	parent, there := f.descend(parentPath)
	if !there || f.t.at(parent).dir == nil {
		return 0, false
	}
	d := f.t.at(parent).dir
	p, i, found := f.t.seekChild(d, name)
	if !found {
		return 0, false
	}
	return d.children.pieces[p].items[i], true
}

// Sessions yields the sessions in the order of their ids.
func (f *Frozen) Sessions(yield func(*Session) bool) {
	f.t.sessions.all(func(s Session) bool { return yield(&s) })
}

// Builder makes a tree from a snapshot's records: Nodes in the order in which Frozen.Nodes yields
// them, sessions before, between or after them.
type Builder struct {
	t     Tree
	above []ancestor // the znodes on the path from the root to the last znode added
}

type ancestor struct {
	id   uint32
	path string
}

// NewBuilder begins with an empty state, without even a root.
func NewBuilder() *Builder {
	return &Builder{t: Tree{
		gen: 1, index: map[uint64]uint32{}, collisions: map[string]uint32{}, seed: maphash.MakeSeed(), mask: math.MaxUint64,
		acls: newACLTable(), owners: map[int64]map[uint32]struct{}{},
	}}
}

// Expect reserves memory for n znodes; more or fewer may come.
func (b *Builder) Expect(n int) {
	if b.t.count == 0 {
		b.t.index = make(map[uint64]uint32, n)
	}
}

// Add adds a znode. It copies what it keeps. The error says which rule the record breaks: a missing
// parent, wrong order or a duplicate, a bad path, an ephemeral with children, an impossible owner.
func (b *Builder) Add(n *Node) error {
	t := &b.t
	if err := znode.CheckPath(n.Path); err != nil {
		return fmt.Errorf("tree: %w", err)
	}
	if len(n.ACL) == 0 {
		return fmt.Errorf("tree: %s has no ACL", n.Path)
	}
	if n.Owner != 0 && (znode.ExplainOwner(n.Owner) == znode.Owner{} || znode.Reserved(n.Path)) {
		return fmt.Errorf("tree: %s has the invalid owner %s", n.Path, znode.Hex(uint64(n.Owner)))
	}
	parentPath, name := znode.Split(n.Path)
	for len(b.above) > 0 && b.above[len(b.above)-1].path != parentPath {
		b.above = b.above[:len(b.above)-1]
	}
	f := fields{
		acl: t.acls.intern(n.ACL), czxid: n.Czxid, mzxid: n.Mzxid, ctime: n.CtimeMS, mtime: n.MtimeMS,
		version: n.Version, avers: n.Aversion, owner: n.Owner, null: n.Data == nil, name: name, data: string(n.Data),
		created: n.Created, pzxid: n.Pzxid,
	}
	switch {
	case n.Path == znode.Root:
		if t.count != 0 {
			return fmt.Errorf("tree: duplicate root")
		}
	case len(b.above) == 0:
		return fmt.Errorf("tree: %s is out of order or its parent is missing", n.Path)
	default:
		f.parent = b.above[len(b.above)-1].id
		s := t.at(f.parent)
		if s.dir != nil && s.dir.count > 0 {
			last := s.dir.children.pieces[len(s.dir.children.pieces)-1].items
			if _, before := t.at(last[len(last)-1]).rec.place(); before >= name {
				return fmt.Errorf("tree: %s is a duplicate or out of order: it follows its sibling %q", n.Path, before)
			}
		}
		if znode.ExplainOwner(s.rec.unpack().owner).Session != 0 {
			return fmt.Errorf("tree: %s has the ephemeral parent %s", n.Path, parentPath)
		}
	}
	id := t.link(n.Path, t.pack(&f), nil)
	t.digest.add(t.h.stat(n.Path, &f, n.Created, n.Pzxid))
	t.digest.add(t.h.data(n.Path, &f, t.acls.lists[f.acl]))
	if governed, ok := governedBy(parentPath); ok && name == znode.LimitsName {
		t.quotas.Put(governed, struct{}{})
	}
	b.above = append(b.above, ancestor{id, n.Path})
	return nil
}

// AddSession adds a session.
func (b *Builder) AddSession(s Session) error {
	p, i, there := b.t.seekSession(s.ID)
	if there || !znode.ValidSession(s.ID) {
		return fmt.Errorf("tree: session %s is invalid or a duplicate", znode.Hex(uint64(s.ID)))
	}
	b.t.sessions.insert(b.t.gen, p, i, s)
	b.t.digest.add(b.t.h.session(&s))
	return nil
}

// Tree finishes the tree. A missing system znode, or an ephemeral whose session is missing, is an
// error. The Builder must not be used again.
func (b *Builder) Tree(c Counters) (*Tree, error) {
	t := &b.t
	for _, path := range []string{znode.Root, znode.SystemPath, znode.QuotaPath, znode.ConfigPath} {
		if _, there := t.find(path); !there || t.count == 0 {
			return nil, fmt.Errorf("tree: the znode %s is missing", path)
		}
	}
	for session, own := range t.owners {
		if _, there := t.byID(session); !there {
			for id := range own {
				return nil, fmt.Errorf("tree: %s belongs to session %s, which is missing", t.path(id), znode.Hex(uint64(session)))
			}
		}
	}
	t.counters = c
	t.digest.add(t.h.counters(c.EpochOffset, c.Settings))
	return t, nil
}
