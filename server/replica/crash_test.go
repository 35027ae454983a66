package replica_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

var seedFlag = flag.Uint64("seed", 0, "run the tests of random crashes with this seed only")

// Random txns, faults of the disk, and crashes that lose all or part of what was not synced. After
// each start the state equals a fresh replay of the log; every answered txn is in it with exactly
// the result of its answer; no refused txn is in it, and none in part. The seed decides what is
// done; how the goroutines interleave may still differ a little.
func TestNoAnsweredWriteIsLost(t *testing.T) {
	crashes(t, 250, func(t *testing.T) disk {
		l := newMemLog()
		l.seen.archive = []*raftpb.Entry{}
		l.synced.archive = l.seen.archive
		return &memDisk{memLog: l}
	})
}

// The same with package wal, in small segments.
func TestNoAnsweredWriteIsLostOnDisk(t *testing.T) {
	crashes(t, 15, func(t *testing.T) disk {
		return &walDisk{t: t, dir: filepath.Join(t.TempDir(), "wal")}
	})
}

func crashes(t *testing.T, count int, blank func(*testing.T) disk) {
	first := uint64(time.Now().UnixNano())
	if *seedFlag != 0 {
		first, count = *seedFlag, 1
	}
	for seed := first; seed < first+uint64(count) && !t.Failed(); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func() {
					if t.Failed() {
						t.Logf("again: go test ./server/replica -run '^%s$' -seed %d", strings.Split(t.Name(), "/")[0], seed)
					}
				}()
				w := &world{machine: newMachine(t), rnd: rand.New(rand.NewPCG(seed, 0)), disk: blank(t)}
				for range 2 + w.rnd.IntN(4) {
					w.live()
				}
				w.rest()
			})
		})
	}
}

// disk is a log that can crash.
type disk interface {
	replica.Log
	// open makes the log ready for a start.
	open() wal.HardState
	// crash ends this disk: every later call fails. It returns the disk that the next start finds.
	crash(*rand.Rand) disk
	// archived returns the entries from index 2 on.
	archived() []*raftpb.Entry
	// trouble sometimes makes a step fail, or holds all syncs.
	trouble(*rand.Rand)
	// relief lets one sync through.
	relief()
}

type world struct {
	*machine
	rnd  *rand.Rand
	disk disk
	full atomic.Bool
	tags int

	mu struct {
		sync.Mutex
		gone     bool // the machine has crashed: answers no longer reach anybody
		answered []claim
	}
}

// claim is what a client was answered.
type claim struct {
	tag    string
	result tree.Result
}

// live runs the replica until it crashes or is stopped.
func (w *world) live() {
	w.config.SnapshotTxns = 1 + w.rnd.IntN(40)
	w.config.SnapshotBytes = int64(1 + w.rnd.IntN(50_000))
	w.config.Full = w.full.Load
	w.snaps.fail = nil
	if w.rnd.IntN(4) == 0 {
		w.snaps.fail = errors.New("no snapshot today")
	}
	w.config.HardState, w.config.Log = w.disk.open(), w.disk
	if w.rnd.IntN(3) == 0 {
		w.disk.trouble(w.rnd) // perhaps during the start
	}
	n := w.start()
	synctest.Wait()
	select {
	case <-n.Ready():
		if len(n.ended) == 0 {
			w.check(n)
		}
	default:
	}
	w.disk.trouble(w.rnd)
	for range w.rnd.IntN(25) {
		switch w.rnd.IntN(8) {
		case 0, 1, 2:
			for range 1 + w.rnd.IntN(8) {
				w.submit(n)
			}
		case 3:
			synctest.Wait()
		case 4:
			w.full.Store(w.rnd.IntN(3) == 0)
			time.Sleep(time.Second)
		case 5:
			n.Freeze(func(f *tree.Frozen, _ replica.Point) { w.checkPair(f) })
		default:
			w.disk.relief()
		}
	}
	if w.rnd.IntN(2) == 0 {
		synctest.Wait()
	}
	w.crash(n)
}

// crash ends a life, whatever is under way. The answers and the disks belong to the same moment.
func (w *world) crash(n *node) {
	w.mu.Lock()
	w.snaps.mu.Lock()
	next := w.disk.crash(w.rnd)
	snaps := &memSnaps{saved: slices.Clone(w.snaps.saved)}
	w.mu.gone = true
	w.snaps.mu.Unlock()
	w.mu.Unlock()
	n.cancel()
	if err := <-n.ended; err != nil {
		w.Logf("a life ended with %v", err)
	}
	synctest.Wait()
	w.mu.gone = false
	w.disk, w.snaps = next, snaps
}

// rest starts the node once more, without faults, and checks the end state.
func (w *world) rest() {
	w.full.Store(false)
	w.snaps.fail = nil
	w.config.HardState, w.config.Log = w.disk.open(), w.disk
	n := w.ready()
	w.check(n)
	w.submit(n)
	synctest.Wait()
	w.check(n)
	w.crash(n)
}

func (w *world) submit(n *node) {
	w.tags++
	tag := fmt.Sprintf("%s-%d", strings.Repeat("x", w.rnd.IntN(3)*w.rnd.IntN(1000)), w.tags)
	path := fmt.Sprintf("/%d", w.rnd.IntN(8))
	var x *tree.Txn
	switch w.rnd.IntN(8) {
	case 0, 1:
		x = createData(path, tag)
	case 2, 3:
		x = set(path, tag)
	case 4:
		x = remove(path)
	case 5:
		x = createData("/q-", tag)
		x.Mode = znode.PersistentSequential
	case 6:
		x = multi(setOp("/x", tag), setOp("/y", tag))
	default: // often refused in the end
		x = multi(createOp("/x", tag), createOp("/y", tag), removeOp(path), createOp(path, tag))
		if w.rnd.IntN(2) == 0 {
			x = multi(createOp("/x", tag), createOp("/y", tag))
		}
	}
	tag = tagOf(x)
	n.Submit(x, func(r tree.Result, _ *tree.Tree, _ *watchTable) {
		r.Ops = slices.Clone(r.Ops)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.mu.gone {
			w.mu.answered = append(w.mu.answered, claim{tag, r})
		}
	})
}

// check compares the state of a replica at rest with its log and with what clients were answered.
func (w *world) check(n *node) {
	w.Helper()
	f, at := n.freeze()
	entries := w.disk.archived()
	h := replay(w, entries)
	if f.Digest() != h.tree.Digest() || at.Index != uint64(len(entries)+1) {
		w.Fatalf("digest %v at entry %d; a fresh replay has %v at %d", f.Digest(), at.Index, h.tree.Digest(), len(entries)+1)
	}
	rebuild(w, f)
	w.checkPair(f)
	w.snaps.mu.Lock()
	saved := w.snaps.saved
	w.snaps.mu.Unlock()
	for _, s := range saved {
		if want := replay(w, entries[:s.at.Index-1]).tree.Digest(); s.f.Digest() != want {
			w.Fatalf("the snapshot of entry %d has digest %v, a fresh replay %v", s.at.Index, s.f.Digest(), want)
		}
	}
	byZxid, tags := map[znode.Zxid]applied{}, map[string]bool{}
	for _, a := range h.txns {
		byZxid[a.result.Zxid] = a
		tags[a.tag] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.mu.answered {
		switch c.result.Code {
		case znode.ErrNoLeader, znode.ErrNoSpace:
			if c.tag != "" && tags[c.tag] {
				w.Fatalf("txn %q was refused with %v, and is in the log", c.tag, c.result.Code)
			}
		default:
			if a := byZxid[c.result.Zxid]; a.tag != c.tag || !reflect.DeepEqual(a.result, c.result) {
				w.Fatalf("txn %q was answered %+v; the log has %q with %+v", c.tag, c.result, a.tag, a.result)
			}
		}
	}
}

// checkPair checks two znodes that are only ever written together.
func (w *world) checkPair(f *tree.Frozen) {
	pair := map[string]string{}
	f.Nodes(znode.Root, func(z *tree.Node) bool {
		pair[z.Path] = string(z.Data)
		return true
	})
	if pair["/x"] != pair["/y"] {
		w.Errorf("half a multi: %q and %q", pair["/x"], pair["/y"])
	}
}

// memDisk is the twin in memory.
type memDisk struct{ *memLog }

func (d *memDisk) open() wal.HardState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen.recovered()
}

func (d *memDisk) crash(rnd *rand.Rand) disk {
	defer d.memLog.open()
	return &memDisk{d.memLog.crash(rnd)}
}

func (d *memDisk) archived() []*raftpb.Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.seen.archive)
}

func (d *memDisk) trouble(rnd *rand.Rand) {
	switch rnd.IntN(4) {
	case 0:
		step := []string{"write", "sync", "mark", "compact"}[rnd.IntN(4)]
		d.failAt(step, 1+rnd.IntN(8), errors.New("the disk is broken"))
	case 1:
		d.hold()
	}
}

func (d *memDisk) relief() {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	select {
	case gate <- struct{}{}:
	default:
	}
}

// walDisk is package wal in a folder of its own.
type walDisk struct {
	t   *testing.T
	dir string
	*wal.Log
	lose func(size int64) int64 // what the last crash leaves of the last segment

	mu     sync.Mutex // held during writes
	dead   bool
	kept   []*raftpb.Entry
	synced place
}

// place is the end of the records in the log's last segment.
type place struct {
	segment string
	size    int64
}

func (d *walDisk) end() (p place) {
	files, err := os.ReadDir(d.dir)
	if err != nil || len(files) == 0 {
		d.t.Fatalf("no segments: %v", err)
	}
	name := files[len(files)-1].Name()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	size := 0
	for size < len(b) {
		n, k := binary.Uvarint(b[size:])
		if n == 0 || k <= 0 { // room, or a torn record
			break
		}
		size = min(size+k+int(n), len(b))
	}
	return place{name, int64(size)}
}

func (d *walDisk) open() wal.HardState {
	if d.lose != nil {
		end := d.end()
		if err := os.Truncate(filepath.Join(d.dir, end.segment), d.lose(end.size)); err != nil {
			d.t.Fatal(err)
		}
	}
	log, found := openWAL(d.t, d.dir, wal.Options{SegmentBytes: 4000, RecentBytes: 2000})
	d.Log, d.synced = log, d.end()
	d.kept = d.kept[:found.Last-1]
	return found.HardState
}

func (d *walDisk) crash(rnd *rand.Rand) disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	_ = d.Close() // what it syncs is lost anyway
	synced, share := d.synced, rnd.Float64()
	return &walDisk{t: d.t, dir: d.dir, kept: d.kept, lose: func(size int64) int64 {
		least := int64(0)
		if d.end().segment == synced.segment {
			least = synced.size
		}
		return least + int64(share*float64(size-least+1)*0.999)
	}}
}

func (d *walDisk) writing(write func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errCrashed
	}
	before := d.Stats().Syncs
	if err := write(); err != nil {
		return err
	}
	if d.Stats().Syncs > before {
		d.synced = d.end()
	}
	return nil
}

func (d *walDisk) Append(batches ...wal.Batch) error {
	return d.writing(func() error {
		for _, b := range batches {
			for _, e := range b.Entries {
				d.kept = append(d.kept[:e.GetIndex()-2], e)
			}
		}
		return d.Log.Append(batches...)
	})
}

func (d *walDisk) Mark(m wal.Mark) error {
	return d.writing(func() error { return d.Log.Mark(m) })
}

func (d *walDisk) CompactTo(index uint64) error {
	return d.writing(func() error { return d.Log.CompactTo(index) })
}

func (d *walDisk) Reset(p wal.Position, h wal.HardState) error {
	return d.writing(func() error { return d.Log.Reset(p, h) })
}

func (d *walDisk) archived() []*raftpb.Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.kept)
}

func (d *walDisk) trouble(*rand.Rand) {}

func (d *walDisk) relief() { synctest.Wait() }
