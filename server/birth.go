package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"coord/server/founding"
	"coord/server/peer"
	"coord/server/replica"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/wal"
)

// machine runs the founding's state machine and carries out its effects: records written to the
// disk, messages sent as requests of package peer, news for gossip. The goroutine that brings it
// news carries out the effects, in their order and under its lock, so that a reply leaves only
// after the record that it relies on is durable.
type machine struct {
	e    *ensemble
	born chan struct{} // closed when the identity says Member
	was  string        // the reason for waiting that was last logged

	mu     sync.Mutex
	m      *founding.Machine
	asking map[string]bool // questions under way
	// complaints holds the last complaint about each address.
	complaints map[string]string
	joining    bool
	doors      []string // addresses of members that may be asked to take this node in
	lineage    lineage
}

// lineage is what a joining node must know about the data that it will hold.
type lineage struct {
	Lineage    string `json:"lineage"`
	Generation uint32 `json:"generation"`
}

const (
	// foundingTick is how often unanswered questions are asked again.
	foundingTick = 250 * time.Millisecond
	// quietTicks is how many ticks a node that founds alone listens first: members of an ensemble
	// that knew this node before its disk was lost call at least once a second.
	quietTicks = 6
)

func (m *machine) init(e *ensemble) {
	m.e, m.born, m.asking, m.complaints = e, make(chan struct{}), map[string]bool{}, map[string]string{}
	conf := founding.Config{
		Self:  founding.Node{ID: e.n.identity.Node, Name: e.n.cfg.Name, Addr: e.self.peerAddr()},
		Label: e.n.cfg.Cluster, How: founding.Alone, Quiet: quietTicks,
		NewID: func() founding.ID { return founding.ID(snapshot.NewID()) },
	}
	switch c := e.cfg; {
	case len(c.Initial) > 0 && e.n.lost == nil:
		conf.How = founding.Initial
		for _, f := range c.Initial {
			conf.Peers = append(conf.Peers, founding.Node{Name: f.Name, Addr: f.Addr})
		}
	case c.Expect > 0 && e.n.lost == nil:
		conf.How, conf.N = founding.Expect, c.Expect
	case len(c.Join) > 0, e.n.lost != nil:
		conf.How, conf.Peers = founding.Seeded, e.guesses()
	}
	record := recordOf(&e.n.identity)
	if record.State == founding.Member {
		close(m.born)
	}
	m.m = founding.New(conf, record)
}

// guesses are the probable peer addresses of the seeds; gossip will find the true ones.
func (e *ensemble) guesses() (nodes []founding.Node) {
	add := func(addr string) {
		if addr != e.self.peerAddr() && !slices.ContainsFunc(nodes, func(n founding.Node) bool { return n.Addr == addr }) {
			nodes = append(nodes, founding.Node{Addr: addr})
		}
	}
	for _, seed := range e.cfg.Join {
		host, _, err := splitAddr(seed)
		if err != nil {
			host = seed
		}
		_, port, _ := splitAddr(DefaultPeerListen)
		add(hostPort(host, port))
		add(hostPort(host, e.self.peer))
	}
	for _, f := range e.cfg.Initial {
		add(f.Addr)
	}
	for _, m := range e.n.remembered {
		if m.node != e.n.identity.Node && m.peerAddr() != "" {
			add(m.peerAddr())
		}
	}
	return nodes
}

// recordOf is what the founding remembers across restarts.
func recordOf(id *datadir.Identity) founding.Record {
	r := founding.Record{Voted: id.Voted, Reason: id.Reason}
	for _, plan := range id.Released {
		r.Released = append(r.Released, founding.ID(plan))
	}
	switch id.State {
	case datadir.Promised:
		r.State = founding.Promised
		r.Plan = &founding.Plan{Cluster: founding.ID(id.Promise.Cluster)}
		for _, f := range id.Promise.Members {
			r.Plan.Members = append(r.Plan.Members, founding.Node{ID: f.Node, Name: f.Name, Addr: f.Addr})
		}
	case datadir.Member:
		r.State, r.Cluster, r.Released = founding.Member, founding.ID(id.Cluster), nil
	default:
	}
	return r
}

// belong returns once the folder says that this node is a member of an ensemble.
func (m *machine) belong(ctx context.Context) error {
	ticker := time.NewTicker(foundingTick)
	defer ticker.Stop()
	for {
		select {
		case <-m.born: // checked first: the node may be a member already
			return nil
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.born:
			return nil
		case <-m.e.gossip.Changed():
			m.do(func(f *founding.Machine) []founding.Effect { return f.Seen(m.e.candidates()) })
		case <-ticker.C:
			m.do(func(f *founding.Machine) []founding.Effect { return f.Tick() })
		}
		m.tell()
	}
}

// candidates are the nodes that gossip shows, in the form the founding takes.
func (e *ensemble) candidates() (list []founding.Candidate) {
	for _, m := range e.gossip.Members() {
		list = append(list, founding.Candidate{
			Node:  founding.Node{ID: m.Node, Name: m.Name, Addr: hostPort(m.Host, int(m.PeerPort))},
			State: founding.State(m.State), Cluster: founding.ID(m.Cluster), N: int(m.Expect), View: m.View,
		})
	}
	return list
}

// tell reports what this node waits for: to gossip, and to the log when it has changed.
func (m *machine) tell() {
	m.mu.Lock()
	said := m.e.said()
	said.View, said.State = m.m.View(), byte(m.m.Record().State)
	m.mu.Unlock()
	if err := m.e.gossip.Update(said); err != nil {
		m.e.log.Error().Err(err).Msg("gossip rejected the update about this node")
	}
	if now := m.waiting(); now != m.was {
		m.was = now
		if now != "" {
			m.e.log.Info().Msg(now)
		}
	}
}

// waiting says in words what this node waits for; "" if it is a member.
func (m *machine) waiting() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.Waiting()
}

// isJoining says whether a member of the ensemble has been found.
func (m *machine) isJoining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joining
}

// contact reports a member that expects another node at this address.
func (m *machine) contact(cluster [16]byte, expects uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if expects != m.e.n.identity.Node {
		m.m.Contact(cluster, expects)
	}
}

// do brings the machine news and carries out the effects. It returns the reply if the news was a
// question.
func (m *machine) do(news func(*founding.Machine) []founding.Effect) (reply *founding.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, effect := range news(m.m) {
		switch x := effect.(type) {
		case founding.Write:
			if err := m.write(x); err != nil {
				m.e.end(explain(err))
				return nil // nothing that relies on the record may be sent
			}
		case founding.Send:
			m.send(x)
		case founding.Reply:
			reply = x.Message
		case founding.Join:
			m.join(x)
		}
	}
	return reply
}

// write makes a record durable. mu is held.
func (m *machine) write(w founding.Write) error {
	n := m.e.n
	id := n.identity
	id.State, id.Voted, id.Promise, id.Reason = datadir.Blank, w.Record.Voted, nil, w.Record.Reason
	id.Released = nil
	for _, plan := range w.Record.Released {
		id.Released = append(id.Released, snapshot.ID(plan))
	}
	switch w.Record.State {
	case founding.Blank:
	case founding.Promised:
		id.State = datadir.Promised
		id.Promise = &datadir.Promise{Cluster: snapshot.ID(w.Record.Plan.Cluster), Proposer: w.Record.Plan.Proposer()}
		for _, p := range w.Record.Plan.Members {
			id.Promise.Members = append(id.Promise.Members, datadir.Founder{Node: p.ID, Name: p.Name, Addr: p.Addr})
		}
	case founding.Member:
		id.State, id.Cluster = datadir.Member, snapshot.ID(w.Record.Cluster)
		if w.Born != nil {
			id.Lineage, id.Generation = id.Cluster, 0
			return m.become(id, w.Born)
		}
		var err error
		if id.Lineage, err = snapshot.ParseID(m.lineage.Lineage); err != nil {
			return fmt.Errorf("invalid lineage of the cluster: %w", err)
		}
		id.Generation = m.lineage.Generation
		return m.become(id, nil)
	default:
		panic("server: the founding writes the state " + w.Record.State.String())
	}
	if err := n.dir.WriteIdentity(id); err != nil {
		return err
	}
	n.identity = id
	return nil
}

// become makes the folder a member's: a founder's, born with a plan, or an empty one that will be
// sent a snapshot.
func (m *machine) become(id datadir.Identity, plan *founding.Plan) error {
	at, t := replica.Point{}, tree.New()
	if plan != nil {
		at.Index, at.Term = 1, 1
		for _, p := range plan.Members {
			at.Voters = append(at.Voters, p.ID)
		}
		var err error
		if t, err = newborn(plan); err != nil {
			return err
		}
	}
	if err := m.e.n.furnish(m.e.ctx, id, at, t); err != nil {
		return err
	}
	close(m.born)
	return nil
}

// furnish puts a first snapshot and an empty log after it into the folder, and then makes it id's.
// It removes what an interrupted attempt has left.
func (n *node) furnish(ctx context.Context, id datadir.Identity, at replica.Point, t *tree.Tree) error {
	for _, path := range []string{n.dir.WAL(), n.dir.Snapshots()} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	store, err := snapshot.OpenStore(n.dir.Snapshots(), ownPace)
	if err != nil {
		return err
	}
	if _, err := store.Save(ctx, n.metaOf(&id, at), t.Freeze(), snapshot.Options{}); err != nil {
		return err
	}
	if err := newLog(n.dir.WAL(), id, at); err != nil {
		return err
	}
	id.State = datadir.Member
	if err := n.dir.WriteIdentity(id); err != nil {
		return err
	}
	n.identity = id
	return nil
}

// newLog creates an empty log that begins after a place.
func newLog(path string, id datadir.Identity, at replica.Point) error {
	l, _, err := wal.Open(path, wal.Options{Meta: wal.Meta{ClusterID: id.Cluster, NodeID: id.Node}})
	if err != nil {
		return err
	}
	err = l.Reset(wal.Position{Index: at.Index, Term: at.Term}, wal.HardState{Term: at.Term, Commit: at.Index})
	return errors.Join(err, l.Close())
}

// send asks another node, at the address that gossip knows for its id, else at the address that the
// founding gave. mu is held.
func (m *machine) send(s founding.Send) {
	addr := s.To.Addr
	for _, g := range m.e.gossip.Members() {
		if s.To.ID != 0 && g.Node == s.To.ID && g.PeerPort != 0 {
			addr = hostPort(g.Host, int(g.PeerPort))
		}
	}
	key := fmt.Sprintf("%d %d %x %s", s.Message.Kind, s.Message.Stand, s.Message.About, addr)
	if m.asking[key] {
		return
	}
	m.asking[key] = true
	body := s.Message.Append([]byte{requestFounding})
	m.e.task(func(ctx context.Context) {
		_, b, err := m.e.links.Request(ctx, addr, body)
		var a *founding.Message
		if err == nil {
			a, err = founding.Decode(b)
		}
		m.mu.Lock()
		delete(m.asking, key)
		if err != nil {
			m.complain(addr, "request to a node failed", err)
		}
		m.mu.Unlock()
		if err != nil {
			return
		}
		m.do(func(f *founding.Machine) []founding.Effect { return f.Answer(s.To, a) })
	})
}

// complain logs why a node does not do what it was asked: once for each address and reason, and not
// at all if the node is not there yet, because waiting says that. mu is held.
func (m *machine) complain(addr, what string, err error) {
	level := zerolog.WarnLevel
	if _, ok := errors.AsType[*net.OpError](err); ok || m.complaints[addr] == err.Error() || errors.Is(err, context.DeadlineExceeded) {
		level = zerolog.DebugLevel
	} else {
		m.complaints[addr] = err.Error()
	}
	m.e.log.WithLevel(level).Err(err).Str("addr", addr).Msg(what)
}

// join asks a member, and then each other one that has been found, until this node is a member too.
// mu is held.
func (m *machine) join(j founding.Join) {
	if bound, ok := m.e.n.boundTo(); ok && snapshot.ID(j.Cluster) != bound {
		m.e.log.Warn().Stringer("cluster", j.Cluster).Msg("cluster not joined: this node's data belongs to another cluster")
		return
	}
	m.doors = append(m.doors, j.Addr)
	if m.joining {
		return
	}
	m.joining = true
	m.e.task(func(ctx context.Context) {
		m.mu.Lock()
		err := m.e.n.setAside()
		m.mu.Unlock()
		if err != nil {
			m.e.end(explain(err))
			return
		}
		for i := 0; ctx.Err() == nil; i++ {
			m.mu.Lock()
			addr := m.doors[i%len(m.doors)]
			m.mu.Unlock()
			a, err := m.e.askToJoin(ctx, addr)
			cluster := snapshot.ID(j.Cluster)
			if err == nil && a.Cluster != cluster.String() {
				cluster, err = m.e.n.another(cluster, a.Cluster)
			}
			if err == nil {
				m.mu.Lock()
				m.lineage = a.lineage
				m.mu.Unlock()
				m.do(func(f *founding.Machine) []founding.Effect { return f.Joined(founding.ID(cluster)) })
				return
			}
			m.mu.Lock()
			m.complain(addr, "not admitted to the cluster yet", err)
			m.mu.Unlock()
			pause(ctx, retryTime)
		}
	})
}

// boundTo is the cluster of a lost node's data, which is the only one it may join, if that is
// known.
func (n *node) boundTo() (cluster snapshot.ID, bound bool) {
	if n.lost == nil || n.lost.cluster == (snapshot.ID{}) {
		return snapshot.ID{}, false
	}
	return n.lost.cluster, true
}

// another returns the id of the cluster to join when a member that was found in cluster was has been
// recovered or restored since, and is of cluster now. A blank node joins the new one; a node that had
// data does not.
func (n *node) another(was snapshot.ID, now string) (snapshot.ID, error) {
	if _, bound := n.boundTo(); bound {
		return was, fmt.Errorf("the node's cluster is now %s, not %s", now, was)
	}
	return snapshot.ParseID(now)
}

// The first byte of a request of package peer says which room it is for. The rest is a message of
// the founding, or JSON: docs/sync-protocol.md.
const (
	requestFounding = 'F'
	requestMember   = 'M'
)

// Request answers another node: peer.Handler.
func (e *ensemble) Request(ctx context.Context, theirs peer.Hello, body []byte) ([]byte, error) {
	if len(body) == 0 {
		return nil, errors.New("empty request")
	}
	switch kind, body := body[0], body[1:]; kind {
	case requestFounding:
		q, err := founding.Decode(body)
		if err != nil {
			return nil, err
		}
		if q.From.ID != theirs.Node {
			return nil, errors.New("the sender of the message does not match the handshake")
		}
		reply := e.machine.do(func(f *founding.Machine) []founding.Effect { return f.Request(q) })
		if reply == nil {
			return nil, errors.New("this node is stopping")
		}
		return reply.Append(nil), nil
	case requestMember:
		var q memberRequest
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, fmt.Errorf("invalid request: %w", err)
		}
		a, err := e.answer(ctx, theirs, &q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	default:
		return nil, fmt.Errorf("unknown kind of request: %d", kind)
	}
}

// strangers are the names in a list of first members of which neither the name nor the address is a
// member's.
func strangers(list []Founder, members roster) (names []string) {
	for _, f := range list {
		if !slices.ContainsFunc(members, func(m member) bool { return m.name == f.Name || m.peerAddr() == f.Addr }) {
			names = append(names, f.Name)
		}
	}
	return names
}

// compareList warns if --initial lists nodes that are not members of this node's cluster. The list counts
// on a first start only, and this is a later one. The members may have changed since, or the folder may be
// another node's.
func (e *ensemble) compareList() {
	var members roster
	e.replica.Load().View(func(t *tree.Tree, _ *watchTable) { members, _ = rosterOf(t) })
	if len(members) == 0 { // it was stopped before the roster was written
		if st := e.replica.Load().Status(); len(st.Members.Voters)+len(st.Members.Others) > 1 {
			return
		}
		members = roster{e.whereabouts()}
	}
	if not := strangers(e.cfg.Initial, members); len(not) > 0 {
		e.log.Warn().Strs("not_members", not).Strs("members", members.names()).Str("cluster", e.n.identity.Cluster.String()).
			Msg("initial lists nodes that are not members of the cluster in the data folder; the data folder takes precedence: check that it is this node's")
	}
}

// lost says what a node was that must come back as another one.
type lost struct {
	cluster snapshot.ID
	reason  string
}

// setAside moves what is left of a lost node's data out of the way, now that the ensemble is known
// to be there.
func (n *node) setAside() error {
	if n.lost == nil {
		return nil
	}
	path, err := n.dir.SetAside(time.Now(), n.lost.reason, n.identity)
	if err != nil {
		return err
	}
	n.log.Error().Str("why", n.lost.reason).Str("moved_to", path).Msg("damaged data moved aside: this node rejoins as a new node")
	id, _, err := n.dir.Identity()
	n.identity = id
	return err
}
