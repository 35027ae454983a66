package replica_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// checker checks every turn of every node against one history: the entries as the first node to
// reach them applied them, applied once more to a tree of the checker's own.
type checker struct {
	s        *sim
	leaders  map[uint64]uint64 // by term
	entries  []*raftpb.Entry   // from index 2 on
	digests  []tree.Digest     // after each of them; the first is that of index 1
	tree     *tree.Tree
	applied  map[string]outcome    // by tag
	moments  map[string]int64      // position in the history, by tag; only clients' writes
	never    map[string]bool       // tags that were refused
	acks     []ack                 // given in this turn
	answered map[string]bool       // tags
	at       map[*simNode]uint64   // applied index up to which the node was checked
	probes   map[uint64]znode.Code // the last writes, one per node
	floors   map[uint64]uint64     // the highest floor that any node has known, by node
	members  replica.Point         // at the end

	// See sim_model_test.go, sim_expiry_test.go and sim_watch_test.go.
	model        model
	systemZnodes int            // those that every tree has
	numbers      map[string]int // the last number of a sequence, by its parent
	sessions     map[int64]*sessionRecord
	ephemerals   map[string]int64        // the session that owns each
	gone         []endedSession          // in the order in which they ended
	goneAt       map[*simNode]int        // how many of gone a node was checked against
	signs        map[int64]signs         // signs of life
	reports      map[int64]reported      // the last report that arrived
	over         map[int64]time.Duration // when a node last reported that its time was over
	events       map[string][]happened   // by path
	below        map[string][]happened   // by path directly under the root: the events of that znode and of all below it
}

// outcome is the result of a write.
type outcome struct {
	zxid znode.Zxid
	code znode.Code
	path string
}

type ack struct {
	tag string
	outcome
}

func (k *checker) init(s *sim) {
	*k = checker{s: s, leaders: map[uint64]uint64{}, tree: tree.New(), applied: map[string]outcome{}, moments: map[string]int64{},
		never: map[string]bool{}, answered: map[string]bool{}, at: map[*simNode]uint64{}, probes: map[uint64]znode.Code{},
		sessions: map[int64]*sessionRecord{}, ephemerals: map[string]int64{}, goneAt: map[*simNode]int{}, signs: map[int64]signs{},
		reports: map[int64]reported{}, over: map[int64]time.Duration{}, events: map[string][]happened{}, below: map[string][]happened{},
		model: newModel(), numbers: map[string]int{}, floors: map[uint64]uint64{}}
	k.digests, k.systemZnodes = []tree.Digest{k.tree.Digest()}, k.tree.Counts().Znodes
}

func (k *checker) last() uint64 { return uint64(len(k.entries)) + 1 }

func (k *checker) started(n *simNode) {
	k.at[n], k.goneAt[n] = n.r.Status().Applied, 0
	k.look(n)
	k.lookAtFloors(n)
}

// turned checks a node after one of its turns.
func (k *checker) turned(n *simNode, part int) {
	if part == loopPart {
		st := n.r.Status()
		if now := (reign{st.Term, st.Leader}); now != n.reign {
			n.reign, n.steady = now, k.s.now
		}
		if st.Role == "leader" {
			switch other, ok := k.leaders[st.Term]; {
			case !ok:
				k.leaders[st.Term], n.leads = n.id, k.s.now
				k.s.seen["elections"]++
				k.s.note("%d leads in term %d", n.id, st.Term)
			case other != n.id:
				k.s.fail("%d and %d lead in term %d", other, n.id, st.Term)
			}
		}
	}
	k.lookAtFloors(n)
	if part == applierPart {
		k.look(n)
		for _, a := range k.acks {
			if have, ok := k.applied[a.tag]; a.tag != "" && (!ok || have != a.outcome) {
				k.s.fail("write %s was answered with %+v; it is in the log: %t, with %+v", a.tag, a.outcome, ok, have)
			}
		}
		k.acks = k.acks[:0]
	}
}

// lookAtFloors: for every floor that any node knows, the disk of the floor's node has the log up to
// there, even if it crashed now, unless it is an older copy.
func (k *checker) lookAtFloors(n *simNode) {
	for _, o := range k.s.nodes {
		floor, term := n.r.Floor(o.id)
		if floor > k.floors[o.id] {
			k.floors[o.id] = floor
			k.s.seen["floors told"]++
		}
		if last, floor := o.log.synced.last(), k.floors[o.id]; last < floor && !k.s.net.isBehind(o) {
			k.s.fail("the disk of %d has entries up to %d, and its floor is %d", o.id, last, floor)
		}
		if was := o.log.synced.recovered().Term; was < term && !k.s.net.isBehind(o) {
			k.s.fail("the disk of %d has been in term %d, and its floor %d is of term %d", o.id, was, floor, term)
		}
	}
}

// look checks what a node has applied since the last look.
func (k *checker) look(n *simNode) {
	to := n.r.Status().Applied
	for i := k.at[n] + 1; i <= to; i++ {
		if i <= n.log.seen.base.Index {
			if i > k.last() {
				k.s.fail("node %d has installed entry %d, which nobody has applied", n.id, i)
				return
			}
			continue
		}
		e := n.log.seen.entries[i-n.log.seen.base.Index-1]
		switch {
		case i <= k.last():
			if have := k.entries[i-2]; have.GetTerm() != e.GetTerm() || have.GetType() != e.GetType() || !bytes.Equal(have.GetData(), e.GetData()) {
				k.s.fail("node %d has applied entry %d of term %d; others one of term %d", n.id, i, e.GetTerm(), have.GetTerm())
				return
			}
		case i == k.last()+1:
			k.apply(e)
		default:
			k.s.fail("node %d has applied entry %d, nobody %d", n.id, i, k.last()+1)
			return
		}
	}
	k.at[n] = to
	var digest tree.Digest
	n.r.View(func(t *tree.Tree, _ *watchTable) {
		digest = t.Digest()
		k.lookAtSessions(n, t, to)
	})
	if to > 0 && digest != k.digests[to-1] {
		k.s.fail("node %d has digest %v at entry %d, it should be %v", n.id, digest, to, k.digests[to-1])
	}
}

// apply makes an entry part of the history.
func (k *checker) apply(e *raftpb.Entry) {
	k.entries = append(k.entries, e)
	if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
		err := tree.Decode(e.GetData(), func(x *tree.Txn) {
			r, events := k.tree.Apply(e.GetTerm(), x)
			k.happened(events)
			k.sessionTxn(x, r)
			if tag := writeOf(x); tag != "" {
				k.inOrder(tag, r)
			}
			k.judge(x, r)
		})
		if err != nil {
			k.s.fail("entry %d: %v", e.GetIndex(), err)
		}
	}
	k.digests = append(k.digests, k.tree.Digest())
}

// writeOf returns the tag of the client's write that a txn makes: the data that it writes.
func writeOf(x *tree.Txn) string {
	for i := range x.Ops {
		if op := &x.Ops[i]; op.Kind == tree.KindSetData || op.Kind == tree.KindCreate {
			return string(op.Data)
		}
	}
	if x.Kind == tree.KindSetData || x.Kind == tree.KindCreate {
		return string(x.Data)
	}
	return ""
}

// inOrder checks a write when it becomes part of the history: it occurs once, was not refused
// before the log, every earlier write of its connection has occurred, and the connection still has
// the session.
func (k *checker) inOrder(tag string, r tree.Result) {
	if _, twice := k.applied[tag]; twice {
		k.s.fail("write %s is in the log twice", tag)
	}
	if k.never[tag] {
		k.s.fail("write %s was refused and is in the log", tag)
	}
	conn, number, ok := strings.Cut(tag, ".")
	var c *simConn
	if ok {
		id, _ := strconv.Atoi(conn)
		i, _ := strconv.Atoi(number)
		c = k.s.clients.conns[id]
		if i != c.applied+1 {
			k.s.fail("write %s is in the log, and before it on its connection only %d", tag, c.applied)
		}
		c.applied = i
	}
	if c != nil && c.session != 0 {
		rec := k.sessions[c.session]
		switch old := rec.ended || rec.attachment != c.attachment; {
		case old && r.Code == znode.OK:
			k.s.fail("write %s through attachment %d of session %#x is done: %+v", tag, c.attachment, c.session, rec)
		case old != (r.Code == znode.ErrSessionExpired || r.Code == znode.ErrSessionMoved):
			k.s.fail("write %s through attachment %d of session %#x: %v; %+v", tag, c.attachment, c.session, r.Code, rec)
		case old:
			k.s.seen["writes of old attachments refused"]++
			return
		}
	}
	k.applied[tag] = outcome{r.Zxid, r.Code, r.Path}
	k.s.clients.moment++
	if r.Code == znode.OK {
		k.moments[tag] = k.s.clients.moment
	}
}

// refused records that a write was definitely not made.
func (k *checker) refused(tag string) {
	k.never[tag] = true
	if _, done := k.applied[tag]; done {
		k.s.fail("write %s is in the log and was refused", tag)
	}
}

// leader returns the node that leads in the newest term, if it is up.
func (s *sim) leader() *simNode {
	var found *simNode
	var term uint64
	for _, n := range s.nodes {
		if n.r == nil {
			continue
		}
		if st := n.r.Status(); st.Role == "leader" && st.Term > term {
			found, term = n, st.Term
		}
	}
	return found
}

// probe finds out who the members are and makes each of them write.
func (k *checker) probe() {
	l := k.s.leader()
	if l == nil {
		k.s.fail("no leader 10 s after the last fault")
		return
	}
	l.r.Freeze(func(_ *tree.Frozen, at replica.Point) {
		k.members = at
		for _, id := range slices.Concat(at.Voters, at.Others) {
			n := k.s.nodes[id-1]
			if n.r == nil {
				k.s.fail("member %d is down at the end", id)
				return
			}
			x := set("/probe", "probe of "+strconv.Itoa(int(id)))
			x.Flags = tree.OrCreate
			n.r.Submit(x, func(r tree.Result, _ *tree.Tree, _ *watchTable) { k.probes[id] = r.Code })
			n.wake()
		}
	})
	l.wake()
}

// end checks a cluster that has come to rest.
func (k *checker) end() {
	s := k.s
	if s.failure != "" {
		return
	}
	ids := slices.Concat(k.members.Voters, k.members.Others)
	if len(ids) == 0 {
		s.fail("nobody is a member")
	}
	for _, id := range ids {
		n := s.nodes[id-1]
		if code, ok := k.probes[id]; !ok || code != znode.OK {
			s.fail("the last write on member %d: answered %t, %v; %+v", id, ok, code, n.r.Status())
		}
		if st := n.r.Status(); st.Applied != k.last() {
			s.fail("member %d has applied %d of %d entries", id, st.Applied, k.last())
		}
		if !isReady(n) {
			s.fail("member %d is not ready", id)
		}
	}
	for _, n := range s.nodes {
		if n.r != nil && n.r.Stats().PendingBytes != 0 {
			s.fail("node %d: %d bytes have no answer; %+v", n.id, n.r.Stats().PendingBytes, n.r.Status())
		}
	}
	k.endOfSessions()
	k.endOfModel()
	for tag := range s.check.answered {
		if a, ok := k.applied[tag]; !ok || a.code != znode.OK {
			s.fail("write %s was answered, and is lost", tag)
		}
	}
	switch porcupine.CheckOperationsTimeout(registers, k.operations(), 20*time.Second) {
	case porcupine.Illegal:
		s.fail("the reads and writes are not linearizable")
	case porcupine.Unknown:
		s.fail("whether the reads and writes are linearizable is not found in time")
	}
	if n := s.seen["writes"] + s.seen["reads"] + s.seen["lin reads"]; n < 500 || s.seen["faults"] < 5 || s.seen["snapshots"] == 0 {
		s.fail("only %d requests, %d faults, %d snapshots", n, s.seen["faults"], s.seen["snapshots"])
	}
}

// operations returns what clients have done. If a client does not know the outcome of a write, the
// log does: the write took effect before the first node applied it, or never.
func (k *checker) operations() []porcupine.Operation {
	ops := slices.Clone(k.s.clients.history)
	for i := range ops {
		if moment, ok := k.moments[ops[i].Input.(simInput).value]; ok && ops[i].Return == math.MaxInt64 {
			ops[i].Return = moment
		}
	}
	return slices.DeleteFunc(ops, func(op porcupine.Operation) bool { return op.Return == math.MaxInt64 })
}

// registers models single znodes as clients see them.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		var keys []string
		for _, op := range history {
			key := op.Input.(simInput).key
			if byKey[key] == nil {
				keys = append(keys, key)
			}
			byKey[key] = append(byKey[key], op)
		}
		slices.Sort(keys)
		var parts [][]porcupine.Operation
		for _, key := range keys {
			parts = append(parts, byKey[key])
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(simInput); in.write {
			return true, in.value
		}
		return output.(simOutput).value == state.(string), state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, output) },
}
