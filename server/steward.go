package server

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"coord/gossip"
	"coord/server/admission"
	"coord/server/founding"
	"coord/server/frontend"
	"coord/server/replica"
	"coord/server/watch"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/tree/znode"
)

// steward does the periodic work of an ensemble, on every node: it tells the links which nodes to dial
// and where, watches whether there is a leader, and compares digests. On the leader it also keeps the
// roster and makes learners voters. On a node that wants a vote and has none, it asks the leader for one.
type steward struct {
	e        *ensemble
	wake     chan struct{}
	named    map[uint64]bool // to the links
	without  time.Time       // since when there is no leader; zero while there is one
	dropped  bool            // clients are being sent elsewhere
	writing  bool            // the roster is being written; guarded by mu
	asking   bool            // others are being asked; guarded by mu
	lastAsk  time.Time
	lastSaid time.Time            // when digests were last sent
	left     time.Time            // when it last gave the leadership away because the disk was nearly full
	caught   map[uint64]time.Time // learners that have caught up, and since when

	mu         sync.Mutex
	applicants map[uint64]applicant
	told       roster             // by the leader, when this node joined; by others, when it had no leader
	progress   []replica.Progress // of the other nodes, while this node leads
	ledSince   time.Time
	said       map[uint64][]replica.DigestAt // the others' newest digests
	places     map[uint64]place
}

// place is the address that a node has announced on its link, and the boot in which it did.
type place struct {
	member
	boot uint64
}

// applicant is a node that wants to become a member, or a voter.
type applicant struct {
	member
	replaces []uint64
	at       time.Time // of its last request
}

const (
	// stewardTick is how often it looks when nothing wakes it.
	stewardTick = time.Second
	// applicantTime is how long a request counts; a node that wants a vote repeats it.
	applicantTime = 5 * time.Second
	askEvery      = 2 * time.Second
	// settleTime is how long a learner must have kept up before it gets a vote.
	settleTime  = 5 * time.Second
	digestEvery = 5 * time.Second
	leaveEvery  = 10 * time.Second
	// lostTime is how long a node has been without a leader when it starts to ask for members that it does not know.
	lostTime = 2 * time.Second
	// seekTime is how long it waits for the answer of each node that it asks.
	seekTime = time.Second
)

func newSteward(e *ensemble) *steward {
	return &steward{e: e, wake: make(chan struct{}, 1), named: map[uint64]bool{}, caught: map[uint64]time.Time{},
		applicants: map[uint64]applicant{}, said: map[uint64][]replica.DigestAt{}, places: map[uint64]place{}}
}

// poke makes it look at once.
func (s *steward) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run looks after the ensemble until ctx ends.
func (s *steward) run(ctx context.Context) error {
	for {
		s.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-s.e.gossip.Changed():
		case <-time.After(untilNext(stewardTick)):
		}
	}
}

func (s *steward) look(now time.Time) {
	r := s.e.replica.Load()
	st := r.Status()
	var known roster
	var version uint64
	r.View(func(t *tree.Tree, _ *watch.Table) { known, version = rosterOf(t) })
	book := s.book(known)
	s.watchLeader(&st, now)
	lost := !s.without.IsZero() && now.Sub(s.without) >= lostTime
	s.namePeers(&st, book, lost)
	if st.Role != "leader" {
		s.mu.Lock()
		s.progress, s.ledSince = nil, time.Time{}
		s.mu.Unlock()
	}
	switch {
	case st.Role == "leader" && st.Ready:
		s.keepRoster(&st, book, known, version)
		s.leaveIfFull(st.Members.Voters, now)
		r.Progress(func(p []replica.Progress) { s.promote(p, st.Members, now) })
	case len(st.Members.Voters) == 0: // a joining node has not received the state yet
		s.ask(s.e.guesses(), now)
	case lost:
		s.seek(book, now)
	case slices.Contains(st.Members.Voters, s.e.n.identity.Node):
	case st.Leader != 0 && !s.e.cfg.Observer:
		if m := book.find(st.Leader); m != nil && m.peerAddr() != "" {
			s.ask([]founding.Node{{Addr: m.peerAddr()}}, now)
		}
	}
	if now.Sub(s.lastSaid) >= digestEvery {
		s.lastSaid = now
		s.sayDigests(&st)
	}
}

// leaveIfFull gives the leadership away when this node's disk is nearly full: a leader then refuses
// all writes, and another leader may have room. If no node has room, the leadership goes round,
// slowly. A follower accepts what the leader sends until its disk is completely full, and then
// ends; so this node keeps the leadership if the others are no quorum without it.
func (s *steward) leaveIfFull(voters []uint64, now time.Time) {
	r := s.e.replica.Load()
	if !r.Stats().Full || now.Sub(s.left) < leaveEvery {
		return
	}
	s.mu.Lock()
	others := 0
	for _, p := range s.progress {
		if p.Caught && p.Heard <= time.Second && slices.Contains(voters, p.Node) {
			others++
		}
	}
	s.mu.Unlock()
	if others <= len(voters)/2 {
		return
	}
	s.left = now
	s.e.task(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, handOverTime)
		defer cancel()
		if err := r.HandOver(ctx); err != nil {
			s.e.log.Warn().Err(err).Msg("the disk is nearly full, but no other node can take over the leadership")
		}
	})
}

// book says where nodes are. The sources, best first: what a node itself says in the latest of its
// boots, on a link or through gossip; what it said when it asked to join; the roster; what others
// said who the members are.
func (s *steward) book(known roster) roster {
	s.mu.Lock()
	defer s.mu.Unlock()
	book := slices.Clone(s.told)
	note := func(m member) {
		if i := slices.IndexFunc(book, func(b member) bool { return b.node == m.node }); i >= 0 {
			book[i] = m
		} else {
			book = append(book, m)
		}
	}
	for _, m := range known {
		note(m)
	}
	for id, a := range s.applicants {
		if time.Since(a.at) > applicantTime {
			delete(s.applicants, id)
			continue
		}
		note(a.member)
	}
	for _, p := range s.places {
		note(p.member)
	}
	for _, g := range s.e.gossip.Members() {
		if g.PeerPort != 0 && g.Cluster == s.e.n.identity.Cluster && g.Boot > s.places[g.Node].boot {
			note(member{node: g.Node, name: g.Name, host: g.Host, peer: int(g.PeerPort), gossip: int(g.GossipPort), client: int(g.ClientPort),
				observer: g.Role == gossip.Observer})
		}
	}
	note(s.e.whereabouts())
	return book
}

// place notes the address that a node announces on its own link.
func (s *steward) place(from uint64, b []byte) {
	line, boot := parseRoster(string(b))
	if len(line) != 1 || line[0].node != from || line[0].peerAddr() == "" {
		return
	}
	s.mu.Lock()
	s.places[from] = place{line[0], boot}
	s.mu.Unlock()
	s.poke()
}

// namePeers tells the links which nodes to dial, and where.
func (s *steward) namePeers(st *replica.Status, book roster, lost bool) {
	var seen []uint64
	for _, m := range book {
		seen = append(seen, m.node)
	}
	all := admission.Peers(st, lost, seen)
	for _, id := range all {
		if id == s.e.n.identity.Node {
			continue
		}
		var addrs []string
		if m := book.find(id); m != nil && m.peerAddr() != "" {
			addrs = append(addrs, m.peerAddr())
		}
		if len(addrs) == 0 { // perhaps one of these: the handshake will tell
			for _, guess := range s.e.guesses() {
				addrs = append(addrs, guess.Addr)
			}
		}
		s.named[id] = true
		s.e.links.SetPeer(id, addrs)
	}
	for id := range s.named {
		if !slices.Contains(all, id) {
			delete(s.named, id)
			s.e.links.RemovePeer(id)
			s.mu.Lock()
			delete(s.places, id)
			s.mu.Unlock()
		}
	}
}

// watchLeader sends clients elsewhere while there has been no leader for longer than SyncLimit.
func (s *steward) watchLeader(st *replica.Status, now time.Time) {
	switch {
	case st.Leader != 0:
		s.without = time.Time{}
	case s.without.IsZero():
		s.without = now
	}
	drop := !s.without.IsZero() && now.Sub(s.without) >= s.e.cfg.SyncLimit
	if drop == s.dropped {
		return
	}
	s.dropped = drop
	if drop {
		s.e.log.Warn().Dur("for", now.Sub(s.without)).Msg("no leader: ZooKeeper's clients are disconnected, writes are refused")
	} else {
		s.e.log.Info().Msg("there is a leader again")
	}
	s.e.n.front.SetLeaderless(drop)
}

// keepRoster writes the roster if it is out of date.
func (s *steward) keepRoster(st *replica.Status, book, known roster, version uint64) {
	want := book.of(admission.Everyone(&st.Members)) // a member of which nothing is known yet is left out
	for i := range want {
		want[i].observer = want[i].observer && !slices.Contains(st.Members.Voters, want[i].node)
	}
	if slices.Equal(want, known) {
		return
	}
	s.mu.Lock()
	busy := s.writing
	s.writing = true
	s.mu.Unlock()
	if busy {
		return
	}
	x := want.txn(version + 1)
	s.e.replica.Load().Decide(&x, func(result tree.Result, _ *tree.Tree, _ *watch.Table) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.writing = false
		if result.Code != znode.OK {
			s.e.log.Debug().Str("code", result.Code.Word()).Msg("roster not written")
		}
	})
}

// promote gives votes to learners that want one and have kept up for settleTime. It runs on the replica's loop.
func (s *steward) promote(progress []replica.Progress, members replica.Point, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = progress
	if s.ledSince.IsZero() {
		s.ledSince = now
	}
	var ready []admission.Applicant
	for _, p := range progress {
		if !p.Caught || p.Heard > time.Second {
			delete(s.caught, p.Node)
			continue
		}
		if s.caught[p.Node].IsZero() {
			s.caught[p.Node] = now
		}
		a, asks := s.applicants[p.Node]
		if asks && !a.observer && slices.Contains(members.Others, p.Node) && now.Sub(s.caught[p.Node]) >= settleTime {
			ready = append(ready, admission.Applicant{Node: a.node, Replaces: a.replaces})
		}
	}
	if changes := admission.Grant(&members, ready); len(changes) > 0 {
		s.change(changes...)
	}
}

// change proposes a change of members; its outcome shows in the members.
func (s *steward) change(changes ...replica.Change) {
	s.e.replica.Load().Change(changes, func(result tree.Result, _ *tree.Tree, _ *watch.Table) {
		if result.Code != znode.OK {
			s.e.log.Debug().Str("code", result.Code.Word()).Msg("members not changed")
		}
		s.poke()
	})
}

// ask tells the leader, through one of some nodes, that this node is a member now or wants a vote,
// and which nodes it replaces.
func (s *steward) ask(nodes []founding.Node, now time.Time) {
	if len(nodes) == 0 {
		return
	}
	s.inquire(now, func(ctx context.Context) {
		var err error
		for _, n := range nodes {
			if _, err = s.e.askToJoin(ctx, n.Addr); err == nil {
				return
			}
		}
		s.e.log.Debug().Err(err).Msg("request to the leader failed")
	})
}

// seek asks all nodes that this one knows who the members are. The members may have changed while it was away:
// those that it knows may no longer be a quorum, or may refuse links because they have been away themselves.
func (s *steward) seek(book roster, now time.Time) {
	var addrs []string
	for _, m := range book {
		if m.node != s.e.n.identity.Node && m.peerAddr() != "" {
			addrs = append(addrs, m.peerAddr())
		}
	}
	for _, guess := range s.e.guesses() {
		if !slices.Contains(addrs, guess.Addr) {
			addrs = append(addrs, guess.Addr)
		}
	}
	s.inquire(now, func(ctx context.Context) {
		var all roster
		for _, addr := range addrs {
			some, err := s.e.askForMembers(ctx, addr)
			if err != nil {
				s.e.log.Debug().Err(err).Str("addr", addr).Msg("request for the members failed")
			}
			for _, m := range some {
				if all.find(m.node) == nil {
					all = append(all, m)
				}
			}
		}
		if len(all) > 0 {
			s.remember(all)
		}
	})
}

// inquire runs f, which asks other nodes: one f at a time, and not too often.
func (s *steward) inquire(now time.Time, f func(ctx context.Context)) {
	s.mu.Lock()
	busy := s.asking || now.Sub(s.lastAsk) < askEvery
	if !busy {
		s.asking, s.lastAsk = true, now
	}
	s.mu.Unlock()
	if busy {
		return
	}
	s.e.task(func(ctx context.Context) {
		f(ctx)
		s.mu.Lock()
		s.asking = false
		s.mu.Unlock()
		s.poke()
	})
}

// remember keeps what was said about who the members are, for a node whose state does not know it.
func (s *steward) remember(hosts roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = hosts
}

// sayDigests tells all peers the digests of this node's state at some places in the log.
func (s *steward) sayDigests(st *replica.Status) {
	b := replica.AppendDigests(nil, s.e.replica.Load().Digests())
	for _, id := range admission.Everyone(&st.Members) {
		if id != s.e.n.identity.Node {
			s.e.links.Forward(id, forwardDigests, b)
		}
	}
}

// compare takes a peer's digests. This node must not serve its state if a majority of the voters,
// agreeing with each other, have another one; a learner, if the leader has another one.
func (s *steward) compare(from uint64, b []byte) {
	theirs, err := replica.ParseDigests(b)
	if err != nil {
		return
	}
	r := s.e.replica.Load()
	st, ours := r.Status(), r.Digests()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[from] = theirs
	at, _, differs := replica.Differs(ours, theirs)
	if !differs {
		return
	}
	s.e.log.Error().Str("peer", datadir.NodeString(from)).Uint64("index", at.Index).Msg("the state of a peer differs from this node's")
	against := 0
	for id, d := range s.said {
		if !slices.Contains(st.Members.Voters, id) {
			continue
		}
		_, _, apart := replica.Differs(ours, d)
		if _, _, quarrel := replica.Differs(theirs, d); apart && !quarrel {
			against++
		}
	}
	learner := !slices.Contains(st.Members.Voters, s.e.n.identity.Node)
	if against > len(st.Members.Voters)/2 || learner && from == st.Leader {
		s.e.end(&divergedError{at.Index})
	}
}

// agreement says how a peer's state compares with this node's: same, differs or unknown.
func (s *steward) agreement(theirs []replica.DigestAt) string {
	ours := s.e.replica.Load().Digests()
	if _, _, differs := replica.Differs(ours, theirs); differs {
		return "differs"
	}
	for _, d := range theirs {
		if slices.ContainsFunc(ours, func(o replica.DigestAt) bool { return o.Index == d.Index }) {
			return "same"
		}
	}
	return "unknown"
}

// leaderAddr is the leader's id, 0 for none, and its peer address, "" if that is not known.
func (s *steward) leaderAddr() (id uint64, addr string) {
	id = s.e.replica.Load().Status().Leader
	if m := s.bookNow().find(id); m != nil {
		addr = m.peerAddr()
	}
	return id, addr
}

func (s *steward) bookNow() roster {
	var known roster
	s.e.replica.Load().View(func(t *tree.Tree, _ *watch.Table) { known, _ = rosterOf(t) })
	return s.book(known)
}

var errNoLeader = errors.New("there is no leader")

// facts are the lines of mntr that are about other nodes, with ZooKeeper's names.
func (s *steward) facts(st *replica.Status) (facts []frontend.Fact) {
	add := func(key string, n int64) {
		facts = append(facts, frontend.Fact{Key: key, Value: strconv.FormatInt(n, 10)})
	}
	book := s.bookNow()
	add("quorum_size", int64(len(st.Members.Voters)))
	if st.Role != "leader" {
		return facts
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var followers, standbys, observers int64
	for _, p := range s.progress {
		m := book.find(p.Node)
		switch {
		case !p.Caught:
		case slices.Contains(st.Members.Voters, p.Node):
			followers++
		case m != nil && m.observer:
			observers++
		default:
			standbys++
		}
	}
	add("learners", int64(len(s.progress)))
	add("synced_followers", followers)
	add("synced_non_voting_followers", standbys)
	add("synced_observers", observers)
	if !s.ledSince.IsZero() {
		add("leader_uptime", time.Since(s.ledSince).Milliseconds())
	}
	return facts
}
