package tree

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"coord/tree/znode"
)

// Quotas follow ZooKeeper: the limits of /a/b are the data of
// /zookeeper/quota/a/b/zookeeper_limits, and the usage is the data of zookeeper_stats beside it;
// clients create both. A znode counts for its closest ancestor (or itself) that has limits. The
// tree updates the usage without changing a version or a zxid, and without firing a watch. Hard
// limits are enforced (Settings.EnforceQuota); soft limits are only for the operator to see.

// usage is a limits or stats znode's data: "count=1,bytes=2", with hard limits
// "count=-1,bytes=-1=;byteHardLimit=3;countHardLimit=4". -1 is unset.
type usage struct {
	count, bytes, hardCount, hardBytes int64
	more                               string // all keys but count and bytes, as they are written after those two
}

// maxUsageBytes is how much of such data counts, up to the last key that is complete within it. A client
// may put a megabyte of keys there, and each change below the path reads and writes them.
const maxUsageBytes = 1 << 10

func parseUsage(s string) usage {
	u := usage{count: -1, bytes: -1, hardCount: -1, hardBytes: -1}
	if len(s) > maxUsageBytes {
		s = s[:strings.LastIndexAny(s[:maxUsageBytes], ",;")+1]
	}
	var more map[string]int64
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == ';' }) {
		key, rest, _ := strings.Cut(part, "=")
		value, _, _ := strings.Cut(rest, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			n = -1
		}
		switch key {
		case "count":
			u.count = n
			continue
		case "bytes":
			u.bytes = n
			continue
		case "countHardLimit":
			u.hardCount = n
		case "byteHardLimit":
			u.hardBytes = n
		}
		if more == nil {
			more = map[string]int64{}
		}
		more[key] = n
	}
	if more != nil {
		b := append(make([]byte, 0, len(s)), '=')
		for _, key := range slices.Sorted(maps.Keys(more)) {
			b = append(append(append(b, ';'), key...), '=')
			b = strconv.AppendInt(b, more[key], 10)
		}
		u.more = string(b)
	}
	return u
}

// String is the form in which ZooKeeper writes it; other keys that the client has put there are kept.
func (u usage) String() string {
	return "count=" + strconv.FormatInt(u.count, 10) + ",bytes=" + strconv.FormatInt(u.bytes, 10) + u.more
}

func (t *Tree) quotaData(governed, name string) (uint32, string, bool) {
	id, there := t.find(znode.QuotaPath + governed + "/" + name)
	if !there {
		return 0, "", false
	}
	return id, t.at(id).rec.unpack().data, true
}

// quota is the limits and the usage of a subtree.
type quota struct {
	limit, now usage
	counted    bool
}

func (t *Tree) quotaAt(governed string) (q quota) {
	_, data, _ := t.quotaData(governed, znode.LimitsName)
	q.limit = parseUsage(data)
	_, data, q.counted = t.quotaData(governed, znode.StatsName)
	q.now = parseUsage(data)
	return q
}

// quotasBefore returns the quotas that govern the znodes of a multi. As in ZooKeeper, a multi is
// judged by the quotas before it, so its ops do not add up.
func (t *Tree) quotasBefore(ops []Op) (all znode.Tops[quota]) {
	if !t.counters.Settings.EnforceQuota {
		return all
	}
	for i := range ops {
		for path := range t.quotas.Above(ops[i].Path) {
			if _, done := all.Get(path); done {
				break // and so are those above it
			}
			all.Put(path, t.quotaAt(path))
		}
	}
	return all
}

// quotaAllows checks a change of a subtree's bytes and count against its hard limits.
func (t *Tree) quotaAllows(path string, bytes, count int64) bool {
	if !t.counters.Settings.EnforceQuota {
		return true
	}
	var q quota // the zero one counts nothing
	if t.inMulti {
		_, q, _ = t.before.Nearest(path)
	} else if governed, _, there := t.quotas.Nearest(path); there {
		q = t.quotaAt(governed)
	}
	if !q.counted {
		return true
	}
	overCount := count > 0 && q.limit.hardCount >= 0 && q.now.count+count > q.limit.hardCount
	overBytes := bytes != 0 && q.limit.hardBytes >= 0 && q.now.bytes+bytes > q.limit.hardBytes
	return !overCount && !overBytes
}

// quotaChanged counts a change in the stats of the quota that governs path.
func (t *Tree) quotaChanged(path string, bytes, count int64) {
	governed, _, there := t.quotas.Nearest(path)
	if !there {
		return
	}
	if id, data, there := t.quotaData(governed, znode.StatsName); there {
		u := parseUsage(data)
		u.bytes += bytes
		u.count += count
		t.setUsage(id, znode.QuotaPath+governed+"/"+znode.StatsName, u)
	}
}

func (t *Tree) setUsage(id uint32, path string, u usage) {
	f := t.at(id).rec.unpack()
	g := f
	g.null, g.data = false, u.String()
	t.replace(id, path, &f, &g)
}

// governedBy returns the path whose quota a znode below QuotaPath holds.
func governedBy(parentPath string) (string, bool) {
	if !strings.HasPrefix(parentPath, znode.QuotaPath+"/") {
		return "", false
	}
	return parentPath[len(znode.QuotaPath):], true
}

// quotaCreated is called after a create: a new limits znode switches counting on, a new stats znode
// gets the present usage.
func (t *Tree) quotaCreated(parentPath, path string, bytes int64) {
	if governed, ok := governedBy(parentPath); ok {
		switch path[len(parentPath)+1:] {
		case znode.LimitsName:
			t.quotas.Put(governed, struct{}{})
			if t.undoing {
				t.later(func() { t.quotas.Delete(governed) })
			}
		case znode.StatsName:
			id, _ := t.find(path)
			t.setUsage(id, path, t.usageOf(governed))
		}
	}
	t.quotaChanged(path, bytes, 1)
}

// quotaDeleted is called after a delete.
func (t *Tree) quotaDeleted(parentPath, path string, bytes int64) {
	if governed, ok := governedBy(parentPath); ok && path[len(parentPath)+1:] == znode.LimitsName {
		t.quotas.Delete(governed)
		if t.undoing {
			t.later(func() { t.quotas.Put(governed, struct{}{}) })
		}
	}
	t.quotaChanged(path, -bytes, -1)
}

// usageOf counts a subtree: its znodes, top included, and the bytes of their data.
func (t *Tree) usageOf(path string) usage {
	u := usage{hardCount: -1, hardBytes: -1}
	id, there := t.find(path)
	if !there {
		return u
	}
	var count func(id uint32) bool
	count = func(id uint32) bool {
		u.count++
		u.bytes += int64(len(t.at(id).rec.unpack().data))
		if d := t.at(id).dir; d != nil {
			d.children.all(count)
		}
		return true
	}
	count(id)
	return u
}
