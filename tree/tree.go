package tree

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"

	"coord/tree/znode"
)

// Tree is the replicated state at one zxid. The package comment says who may call what.
type Tree struct {
	gen      uint64 // blocks of an older generation are shared with a Frozen
	pages    []*page
	freed    []uint32 // slot numbers to use again
	next     uint32   // the first slot number never used
	count    int      // znodes
	bytes    int64    // of all paths and data: what ZooKeeper calls the approximate data size
	counters Counters
	digest   Digest

	index      map[uint64]uint32 // hash of the path → slot
	collisions map[string]uint32 // paths whose hash another path occupies in index
	seed       maphash.Seed
	mask       uint64 // of the hash: all ones, except in the test of collisions

	acls     aclTable
	sessions list[Session]                 // by id: the part that a Frozen keeps
	owners   map[int64]map[uint32]struct{} // session → slots of its ephemerals
	owned    int                           // number of all ephemerals
	quotas   znode.Tops[struct{}]          // paths with a zookeeper_limits znode
	reapable list[uint32]                  // slots of container and TTL znodes, in order

	h       hasher
	scratch []byte
	events  []znode.Event // of the txn in Apply
	undo    []func()      // undo the changes of the txn in Apply; run last to first
	undoing bool          // whether to write undo
	inMulti bool
	before  znode.Tops[quota] // in a multi: the quotas before it
}

const (
	pageBits = 9
	pageLen  = 1 << pageBits
	rootSlot = 0
)

// page is a run of slots.
type page struct {
	gen   uint64
	slots [pageLen]slot
}

// slot is one znode: its own record, and a dir if it ever had children. A free slot has an empty record.
type slot struct {
	rec record
	dir *dir
}

// dir is what a znode knows about its children.
type dir struct {
	gen      uint64
	pzxid    znode.Zxid
	created  int32 // children ever created; stops at the largest int32
	children list[uint32]
	count    int32 // of children
}

// New returns the state before the first txn: the root and ZooKeeper's own znodes.
func New() *Tree {
	b := NewBuilder()
	for _, n := range []Node{
		{Path: znode.Root, ACL: znode.OpenACL},
		{Path: znode.SystemPath, ACL: znode.OpenACL},
		{Path: znode.ConfigPath, ACL: znode.ReadACL, Aversion: -1},
		{Path: znode.QuotaPath, ACL: znode.OpenACL},
	} {
		n.Data = []byte{}
		if err := b.Add(&n); err != nil {
			panic("tree: the system's own znodes: " + err.Error())
		}
	}
	t, err := b.Tree(Counters{Settings: DefaultSettings})
	if err != nil {
		panic("tree: the system's own znodes: " + err.Error())
	}
	return t
}

// at returns a slot for reading.
func (t *Tree) at(id uint32) *slot { return &t.pages[id>>pageBits].slots[id%pageLen] }

// own returns a slot for writing.
func (t *Tree) own(id uint32) *slot {
	p := t.pages[id>>pageBits]
	if p.gen != t.gen {
		clone := *p
		clone.gen = t.gen
		p = &clone
		t.pages[id>>pageBits] = p
	}
	return &p.slots[id%pageLen]
}

// ownDir returns a znode's dir for writing, and makes it if there is none.
func (t *Tree) ownDir(id uint32) *dir {
	s := t.own(id)
	switch {
	case s.dir == nil:
		f := s.rec.unpack()
		s.dir = &dir{gen: t.gen, created: f.created, pzxid: f.pzxid}
	case s.dir.gen != t.gen:
		clone := *s.dir
		clone.gen = t.gen
		clone.children = clone.children.clone()
		s.dir = &clone
	}
	return s.dir
}

// family returns what a znode knows about its children.
func (s *slot) family(f *fields) (created int32, pzxid znode.Zxid, count int32) {
	if s.dir == nil {
		return f.created, f.pzxid, 0
	}
	return s.dir.created, s.dir.pzxid, s.dir.count
}

func (t *Tree) hash(path string) uint64 { return maphash.String(t.seed, path) & t.mask }

// find returns the slot of a path. It accepts any string.
func (t *Tree) find(path string) (uint32, bool) {
	if path == znode.Root || path == "" { // ZooKeeper accepts "" for the root too
		return rootSlot, true
	}
	if id, ok := t.index[t.hash(path)]; ok && t.isAt(id, path) {
		return id, true
	}
	if len(t.collisions) == 0 {
		return 0, false
	}
	id, ok := t.collisions[path]
	return id, ok
}

// isAt says whether the znode in slot id has this path.
func (t *Tree) isAt(id uint32, path string) bool {
	for id != rootSlot {
		parent, name := t.at(id).rec.place()
		cut := len(path) - len(name) - 1
		if cut < 0 || path[cut] != '/' || path[cut+1:] != name {
			return false
		}
		id, path = parent, path[:cut]
	}
	return path == ""
}

// path builds a znode's path.
func (t *Tree) path(id uint32) string {
	if id == rootSlot {
		return znode.Root
	}
	var names []string
	for id != rootSlot {
		parent, name := t.at(id).rec.place()
		names = append(names, name)
		id = parent
	}
	var b strings.Builder
	for _, name := range slices.Backward(names) {
		b.WriteByte('/')
		b.WriteString(name)
	}
	return b.String()
}

// seekChild finds a child by its name, or the place where it would be.
func (t *Tree) seekChild(d *dir, name string) (p, i int, found bool) {
	return d.children.seek(func(id uint32) int {
		_, have := t.at(id).rec.place()
		return strings.Compare(have, name)
	})
}

// link puts a record (with a nil dir, or the one that it had) into the tree. The caller updates the
// parent's counters, the digest and the events.
func (t *Tree) link(path string, r record, d *dir) uint32 {
	var id uint32
	if n := len(t.freed); n > 0 {
		id, t.freed = t.freed[n-1], t.freed[:n-1]
	} else {
		if t.next%pageLen == 0 {
			t.pages = append(t.pages, &page{gen: t.gen})
		}
		id = t.next
		t.next++
	}
	s := t.own(id)
	s.rec, s.dir = r, d
	f := r.unpack()
	t.count++
	t.bytes += int64(len(path) + len(f.data))
	t.acls.ref(f.acl)
	switch o := znode.ExplainOwner(f.owner); {
	case o.Container || o.TTLMS != 0:
		p, i, _ := t.seekReapable(id)
		t.reapable.insert(t.gen, p, i, id)
	case o.Session != 0:
		own := t.owners[o.Session]
		if own == nil {
			own = map[uint32]struct{}{}
			t.owners[o.Session] = own
		}
		own[id] = struct{}{}
		t.owned++
	}
	if id == rootSlot {
		return id
	}
	h := t.hash(path)
	if _, taken := t.index[h]; taken {
		t.collisions[path] = id
	} else {
		t.index[h] = id
	}
	pd := t.ownDir(f.parent)
	p, i, found := t.seekEnd(pd, f.name)
	if found {
		panic("tree: link: the child " + path + " already exists")
	}
	pd.children.insert(t.gen, p, i, id)
	pd.count++
	return id
}

// seekEnd is seekChild for a name that often sorts after all others: always in a snapshot, usually
// among sequential names.
func (t *Tree) seekEnd(d *dir, name string) (p, i int, found bool) {
	if n := len(d.children.pieces); n > 0 {
		items := d.children.pieces[n-1].items
		if _, last := t.at(items[len(items)-1]).rec.place(); last < name {
			return n - 1, len(items), false
		}
	}
	return t.seekChild(d, name)
}

// unlink removes a childless znode and returns what link needs to put it back.
func (t *Tree) unlink(id uint32, path string) (record, *dir) {
	s := t.own(id)
	r, d := s.rec, s.dir
	f := r.unpack()
	pd := t.ownDir(f.parent)
	p, i, found := t.seekChild(pd, f.name)
	if !found || d != nil && d.count != 0 {
		panic("tree: unlink: " + path + " does not exist or has children")
	}
	pd.children.remove(t.gen, p, i)
	pd.count--
	if h := t.hash(path); t.index[h] == id {
		delete(t.index, h)
	} else {
		delete(t.collisions, path)
	}
	switch o := znode.ExplainOwner(f.owner); {
	case o.Container || o.TTLMS != 0:
		p, i, _ := t.seekReapable(id)
		t.reapable.remove(t.gen, p, i)
	case o.Session != 0:
		t.owned--
		delete(t.owners[o.Session], id)
		if len(t.owners[o.Session]) == 0 {
			delete(t.owners, o.Session)
		}
	}
	t.acls.unref(f.acl)
	t.count--
	t.bytes -= int64(len(path) + len(f.data))
	s.rec, s.dir = "", nil
	t.freed = append(t.freed, id)
	return r, d
}

func (t *Tree) seekReapable(id uint32) (p, i int, found bool) {
	return t.reapable.seek(func(have uint32) int { return cmp.Compare(have, id) })
}

// pack makes a record. f.data points into the record from then on.
func (t *Tree) pack(f *fields) record {
	t.scratch = appendRecord(t.scratch[:0], f)
	r := record(t.scratch)
	f.data = string(r[len(r)-len(f.data):])
	if cap(t.scratch) > keepScratch {
		t.scratch = nil
	}
	return r
}

// keepScratch is the largest buffer that is kept for the next record.
const keepScratch = 64 << 10
