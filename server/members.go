package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coord/server/admission"
	"coord/server/founding"
	"coord/server/frontend"
	"coord/server/peer"
	"coord/server/replica"
	"coord/server/watch"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/tree/znode"
)

// memberRequest is a request that one node makes of another, one at a time, as JSON. Do names it:
//
//	join    take the asking node in as a learner; if it is one, note that it wants a vote
//	invite  join the asking node's ensemble: an operator wants it
//	members list the members, as far as known
//	status  report the node's status
//	admin   do the leader's part of Admin, for an operator who has asked another node
type memberRequest struct {
	Do       string   `json:"do"`
	Cluster  string   `json:"cluster,omitempty"` // the only cluster that the asking node may join
	Peer     string   `json:"peer,omitempty"`    // HOST:PORT of the asking node
	Client   int      `json:"client,omitempty"`
	Observer bool     `json:"observer,omitempty"`
	Replaces []string `json:"replaces,omitempty"` // node ids
	Words    []string `json:"words,omitempty"`
}

// memberAnswer is the answer to any memberRequest.
type memberAnswer struct {
	// Leader is set if the node that was asked does not lead: the address to ask instead.
	Leader  string `json:"leader,omitempty"`
	Cluster string `json:"cluster,omitempty"` // of which the asking node may be a member
	lineage
	Roster string      `json:"roster,omitempty"` // the members, for a node whose own state does not name them yet
	Status *nodeStatus `json:"status,omitempty"`
	Code   int32       `json:"code,omitempty"` // the reason of a refusal, as ZooKeeper's number
	Text   string      `json:"text,omitempty"`
}

// nodeStatus is the status of a node.
type nodeStatus struct {
	Role     string `json:"role"`
	Term     uint64 `json:"term"`
	Leader   string `json:"leader,omitempty"`
	Applied  uint64 `json:"applied"`
	Last     uint64 `json:"last"`
	StampMS  int64  `json:"stamp_ms"` // the leader's clock at the last txn applied
	FsyncP99 int64  `json:"fsync_p99_us"`
	Digests  []byte `json:"digests"`
	Version  string `json:"version"`
}

const (
	statusTime = time.Second // a member that has not answered within it is shown as down
	maxHops    = 3
	// handOverPause is the time that a node gets to notice that it leads now.
	handOverPause = 100 * time.Millisecond
	// leaderTime is how long an operator's request waits for a leader: an election or two.
	leaderTime = 3 * time.Second
)

// askMember asks the node at an address. It also returns that node's hello.
func (e *ensemble) askMember(ctx context.Context, addr string, q *memberRequest) (*memberAnswer, peer.Hello, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, peer.Hello{}, err
	}
	theirs, b, err := e.links.Request(ctx, addr, append([]byte{requestMember}, b...))
	if err != nil {
		return nil, theirs, err
	}
	var a memberAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, theirs, fmt.Errorf("%w: unreadable answer from %s: %w", peer.ErrUnanswered, addr, err)
	}
	return &a, theirs, nil
}

// askLeader asks a node and, if that one does not lead, the node that it names as leader, and so
// on. If the named leader is this node, the error is errHandedOver.
func (e *ensemble) askLeader(ctx context.Context, addr string, q *memberRequest) (*memberAnswer, error) {
	for range maxHops {
		a, _, err := e.askMember(ctx, addr, q)
		if err != nil || a.Leader == "" {
			return a, err
		}
		if addr = a.Leader; addr == e.self.peerAddr() {
			return nil, errHandedOver
		}
	}
	return nil, errNoLeader
}

// joinRequest is this node's request to become a learner or, once it is one, a voter.
func (e *ensemble) joinRequest() *memberRequest {
	q := &memberRequest{Do: "join", Peer: e.self.peerAddr(), Client: e.self.client, Observer: e.cfg.Observer}
	if cluster, bound := e.n.boundTo(); bound {
		q.Cluster = cluster.String()
	}
	for _, old := range e.n.identity.Replaces {
		q.Replaces = append(q.Replaces, datadir.NodeString(old))
	}
	return q
}

// askToJoin asks that this node become a learner or, once it is one, a voter.
func (e *ensemble) askToJoin(ctx context.Context, addr string) (*memberAnswer, error) {
	a, err := e.askLeader(ctx, addr, e.joinRequest())
	switch {
	case err != nil:
		return nil, err
	case a.Code != 0:
		return nil, fmt.Errorf("%s: %w", a.Text, znode.Code(a.Code))
	}
	hosts, _ := parseRoster(a.Roster)
	e.steward.remember(hosts)
	return a, nil
}

// askForMembers asks the node at an address who the members are.
func (e *ensemble) askForMembers(ctx context.Context, addr string) (roster, error) {
	ctx, cancel := context.WithTimeout(ctx, seekTime)
	defer cancel()
	a, _, err := e.askMember(ctx, addr, &memberRequest{Do: "members"})
	if err != nil {
		return nil, err
	}
	hosts, _ := parseRoster(a.Roster)
	return hosts, nil
}

// hosts are the members' lines of the roster, as far as this node knows them.
func (e *ensemble) hosts(r *replica.Replica) roster {
	members := r.Status().Members
	return e.steward.bookNow().of(admission.Everyone(&members))
}

// answer answers another node. Requests to the leader are answered by the leader alone.
func (e *ensemble) answer(ctx context.Context, theirs peer.Hello, q *memberRequest) (*memberAnswer, error) {
	if q.Do == "invite" {
		return e.invited(theirs, q)
	}
	r := e.replica.Load()
	if r == nil {
		return nil, errors.New("this node is not a member yet")
	}
	switch q.Do {
	case "status":
		return &memberAnswer{Status: e.n.status()}, nil
	case "members":
		return &memberAnswer{Roster: string(e.hosts(r).encode(0))}, nil
	}
	if id, addr := e.steward.leaderAddr(); id != e.n.identity.Node {
		if addr == "" {
			return nil, errNoLeader
		}
		return &memberAnswer{Leader: addr}, nil
	}
	switch q.Do {
	case "join":
		return e.takeIn(ctx, r, theirs, q)
	case "admin":
		err := e.lead(ctx, q.Words)
		if _, addr := e.steward.leaderAddr(); errors.Is(err, errHandedOver) && addr != "" {
			return &memberAnswer{Leader: addr}, nil
		}
		if refused, ok := errors.AsType[*frontend.AdminError](err); ok {
			return &memberAnswer{Code: int32(refused.Code), Text: refused.Text}, nil
		}
		return &memberAnswer{Status: e.n.status()}, err
	default:
		return nil, fmt.Errorf("unknown request %q", q.Do)
	}
}

// takeIn makes a node that has proved the secret a learner, or notes that a learner wants a vote:
// the leader's part of joining.
func (e *ensemble) takeIn(ctx context.Context, r *replica.Replica, theirs peer.Hello, q *memberRequest) (*memberAnswer, error) {
	if own := e.n.identity.Cluster.String(); q.Cluster != "" && q.Cluster != own {
		return nil, fmt.Errorf("the cluster is now %s, not %s", own, q.Cluster)
	}
	a := applicant{member: member{node: theirs.Node, name: theirs.Name, client: q.Client, observer: q.Observer}, at: time.Now()}
	var err error
	if a.host, a.peer, err = splitAddr(q.Peer); err != nil {
		return nil, fmt.Errorf("invalid peer address of the node: %w", err)
	}
	if len(q.Replaces) > datadir.MaxReplaces {
		return nil, fmt.Errorf("the node replaces too many nodes: %d", len(q.Replaces))
	}
	for _, old := range q.Replaces {
		node, err := parseNode(old)
		if err != nil {
			return nil, fmt.Errorf("invalid id of the node to replace: %w", err)
		}
		a.replaces = append(a.replaces, node)
	}
	s := e.steward
	s.mu.Lock()
	if len(s.applicants) >= maxApplicants {
		s.mu.Unlock()
		return nil, errors.New("too many nodes want to join at once")
	}
	s.applicants[a.node] = a
	s.mu.Unlock()
	switch taken, code := admission.TakeIn(ctx, r, a.node); {
	case code != znode.OK:
		return &memberAnswer{Code: int32(code), Text: "the node cannot be admitted now"}, nil
	case taken:
		e.log.Info().Str("node", datadir.NodeString(a.node)).Str("name", a.name).Str("addr", q.Peer).Msg("node joined as a learner")
	}
	s.poke()
	return &memberAnswer{Cluster: e.n.identity.Cluster.String(), Roster: string(e.hosts(r).encode(0)), lineage: lineage{e.n.identity.Lineage.String(), e.n.identity.Generation}}, nil
}

const maxApplicants = 256

// status is the status of this node.
func (n *node) status() *nodeStatus {
	r := n.replica
	st := r.Status()
	s := &nodeStatus{Role: st.Role, Term: st.Term, Applied: st.Applied, Last: st.Last, FsyncP99: n.measured.syncs.Percentile(990),
		Digests: replica.AppendDigests(nil, r.Digests()), Version: n.cfg.Version}
	if st.Leader != 0 {
		s.Leader = datadir.NodeString(st.Leader)
	}
	r.View(func(t *tree.Tree, _ *watch.Table) { s.StampMS = t.Counters().TimeMS })
	return s
}

// Admin does what an operator asks of the ensemble: frontend.Node.
func (n *node) Admin(ctx context.Context, words []string) ([]frontend.AdminItem, error) {
	e := n.ens
	switch {
	case len(words) == 0:
		return nil, adminError(znode.ErrBadArguments, "no command given")
	case words[0] == "MEMBERS":
		return n.members(ctx), nil
	case e == nil:
		return nil, adminError(znode.ErrBadArguments, "this node is standalone: start it with --secret-file, or with --peer-listen and --gossip-listen on loopback, so that other nodes can join")
	}
	e.admins.Add(1)
	defer e.admins.Add(-1)
	switch words[0] {
	case "LEAVE":
		_, err := e.admin(ctx, []string{"REMOVE", datadir.NodeString(n.identity.Node)})
		if err == nil {
			e.end(&removedError{reason: "requested by an operator", asked: true})
		}
		return nil, err
	case "ADD":
		id, err := e.invite(ctx, words[1:])
		if err != nil {
			return nil, err
		}
		return n.about(ctx, []string{id}), nil
	}
	done, err := e.admin(ctx, words)
	if err != nil {
		return nil, err
	}
	e.catchUp(ctx, done)
	return n.about(ctx, words[1:]), nil
}

// catchUp waits until this node knows what the leader knew when it had carried out a command, so that the reply
// shows the outcome. It does not wait for long: a node that was removed never gets there.
func (e *ensemble) catchUp(ctx context.Context, done *nodeStatus) {
	ctx, cancel := context.WithTimeout(ctx, leaderTime)
	defer cancel()
	for !e.n.status().knows(done) && ctx.Err() == nil {
		pause(ctx, handOverPause/10)
	}
}

// knows says whether the node with the status s knows the leader and the members that the one with the status
// done knew; nil: nothing.
func (s *nodeStatus) knows(done *nodeStatus) bool {
	return done == nil ||
		s.Applied >= done.Applied && (s.Term > done.Term || s.Term == done.Term && s.Leader == done.Leader)
}

// about lists the members that names mean, for the answer to a change: those that are still members.
func (n *node) about(ctx context.Context, names []string) []frontend.AdminItem {
	return itemsOf(n.members(ctx), names)
}

func itemsOf(all []frontend.AdminItem, names []string) []frontend.AdminItem {
	return slices.DeleteFunc(all, func(i frontend.AdminItem) bool {
		return !slices.ContainsFunc(names, func(word string) bool { return isMeant(word, i.Name, i.Facts[0].Value) })
	})
}

func adminError(code znode.Code, format string, args ...any) error {
	return &frontend.AdminError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// admin has the leader carry out a command. It returns the leader's status after that, or nil if this node leads.
func (e *ensemble) admin(ctx context.Context, words []string) (done *nodeStatus, err error) {
	err = untilLed(ctx, func() (err error) {
		done, err = e.adminOnce(ctx, words)
		return err
	})
	return done, err
}

// untilLed tries again while there is no leader, as in a hand-over or just after a leader has ended: nothing
// was done in that case. It tries at least twice, however long the first try took, because a leader that
// hangs does not refuse for seconds.
func untilLed(ctx context.Context, once func() error) error {
	moved := 0
	until := time.Now().Add(leaderTime)
	for try := 1; ; try++ {
		err := once()
		refused, ok := errors.AsType[*frontend.AdminError](err)
		switch {
		case errors.Is(err, errHandedOver): // by this node, or to it, and it may not have noticed yet
			if moved++; moved == maxHops {
				return adminError(znode.ErrNoLeader, "the leadership is being transferred")
			}
		case ok && refused.Code == znode.ErrNoLeader && ctx.Err() == nil && (try == 1 || time.Now().Before(until)):
		default:
			return err
		}
		pause(ctx, handOverPause)
	}
}

// adminOnce has the leader carry out a command, if there is a leader. After ErrNoLeader and errHandedOver
// nothing was done.
func (e *ensemble) adminOnce(ctx context.Context, words []string) (*nodeStatus, error) {
	id, addr := e.steward.leaderAddr()
	switch {
	case id == e.n.identity.Node:
		return nil, e.lead(ctx, words)
	case addr == "":
		return nil, adminError(znode.ErrNoLeader, "no leader can be reached")
	}
	a, err := e.askLeader(ctx, addr, &memberRequest{Do: "admin", Words: words})
	if err := outcomeAt(addr, a, err); err != nil {
		return nil, err
	}
	return a.Status, nil
}

// outcomeAt turns the answer of the leader at addr, or the failure to get one, into the outcome of a command.
func outcomeAt(addr string, a *memberAnswer, err error) error {
	switch {
	case errors.Is(err, errHandedOver):
		return err
	case errors.Is(err, peer.ErrUnanswered):
		return adminError(znode.ErrUncertain, "the request was sent to the leader at %s: %v", addr, err)
	case err != nil:
		return adminError(znode.ErrNoLeader, "request to the leader at %s: %v", addr, err)
	case a.Code != 0:
		return adminError(znode.Code(a.Code), "%s", a.Text)
	}
	return nil
}

// errHandedOver says that another node leads now.
var errHandedOver = errors.New("another node is the leader now")

// lead carries out a command, on the leader.
func (e *ensemble) lead(ctx context.Context, words []string) error {
	r, self := e.replica.Load(), e.n.identity.Node
	var nodes []uint64
	for _, w := range words[1:] {
		if w == "FORCE" {
			continue
		}
		id, err := e.steward.resolve(w)
		if err != nil {
			return err
		}
		nodes = append(nodes, id)
	}
	want := map[string]int{"REMOVE": 1, "PROMOTE": 1, "REPLACE": 2, "TRANSFER": len(nodes)}
	if n, ok := want[words[0]]; !ok || n != len(nodes) {
		return adminError(znode.ErrBadArguments, "invalid command: %s", strings.Join(words, " "))
	}
	var changes []replica.Change
	switch words[0] {
	case "TRANSFER":
		if len(nodes) > 1 {
			return adminError(znode.ErrBadArguments, "expected one node")
		}
		return e.transfer(ctx, nodes)
	case "PROMOTE":
		changes = []replica.Change{{Node: nodes[0], To: replica.Voter}}
	case "REMOVE":
		changes = []replica.Change{{Node: nodes[0], To: replica.Gone, Force: slices.Contains(words, "FORCE")}}
	case "REPLACE":
		voters := r.Status().Members.Voters
		switch before, after := nodes[0], nodes[1]; {
		case !slices.Contains(voters, before):
			return adminError(znode.ErrBadArguments, "%s has no vote that another node could take over", words[1])
		case slices.Contains(voters, after):
			return adminError(znode.ErrBadArguments, "%s already has a vote", words[2])
		}
		changes = []replica.Change{{Node: nodes[1], To: replica.Voter}, {Node: nodes[0], To: replica.Gone}}
	}
	for _, c := range changes {
		if c.Node == self && c.To == replica.Gone {
			// The leader cannot remove itself: it hands over, and the next leader does.
			if !slices.Contains(words, "FORCE") && !e.goOnWithout(ctx) {
				return adminError(znode.ErrNewConfigNoQuorum, tooFewUp)
			}
			if err := e.transfer(ctx, nil); err != nil {
				return err
			}
			return errHandedOver
		}
	}
	switch code := admission.Change(ctx, r, changes...); code {
	case znode.OK:
		e.steward.poke()
		return nil
	case znode.ErrThrottledOp:
		return adminError(code, "not possible now: another change is in progress, or the node has not caught up")
	case znode.ErrNewConfigNoQuorum:
		return adminError(code, tooFewUp)
	case znode.ErrBadArguments:
		return adminError(code, "not possible: no voter would be left, or the node is not a member, or it was removed before")
	default:
		return adminError(code, "change of members refused: %s", code.Error())
	}
}

const tooFewUp = "too few of the remaining voters are up"

// goOnWithout says whether a quorum of the other voters is up, as far as this leader knows at this moment. It
// does not say whether there is another voter or whether this node still leads; the hand-over finds that out.
func (e *ensemble) goOnWithout(ctx context.Context) bool {
	up := make(chan bool, 1)
	e.replica.Load().Without(func(is bool) { up <- is })
	select {
	case is := <-up:
		return is
	case <-ctx.Done():
		return false
	}
}

// transferEvery is how often the leadership is offered to a node again: an offer made during another hand-over, or
// during a change of members, is forgotten.
const transferEvery = time.Second

// transfer gives the leadership to the node in to, or to the best voter if to is empty.
func (e *ensemble) transfer(ctx context.Context, to []uint64) error {
	r := e.replica.Load()
	ctx, cancel := context.WithTimeout(ctx, admission.ChangeTime)
	defer cancel()
	if len(to) == 0 {
		before := r.Status()
		err := r.HandOver(ctx)
		return outcomeOfHandOver(err, before, r.Status())
	}
	if to[0] == e.n.identity.Node {
		return nil
	}
	if !slices.Contains(r.Status().Members.Voters, to[0]) {
		return adminError(znode.ErrBadArguments, "%s has no vote", datadir.NodeString(to[0]))
	}
	for offered := (time.Time{}); ; pause(ctx, 10*time.Millisecond) {
		switch leader := r.Status().Leader; {
		case leader == to[0]:
			return nil
		case leader != 0 && leader != e.n.identity.Node:
			return errHandedOver
		case ctx.Err() != nil:
			return adminError(znode.ErrThrottledOp, "the node did not take over the leadership: check that it is up and has caught up")
		case time.Since(offered) >= transferEvery:
			offered = time.Now()
			r.Transfer(to[0])
		}
	}
}

// outcomeOfHandOver is the outcome of a hand-over to the best voter, given this node's status before and after it.
func outcomeOfHandOver(err error, before, after replica.Status) error {
	switch {
	case err != nil && after.Leader == 0:
		return adminError(znode.ErrNoLeader, "the leadership was lost before another voter could take over")
	case err != nil:
		return adminError(znode.ErrThrottledOp, "no other voter can take over the leadership now: %v", err)
	case after.Term == before.Term && after.Role == "leader":
		return adminError(znode.ErrBadArguments, "there is no other voter")
	}
	return nil
}

// invite asks a node that waits for an ensemble to join this one. It returns when that node is a
// member whose name this node knows.
func (e *ensemble) invite(ctx context.Context, words []string) (node string, err error) {
	if len(words) != 1 {
		return "", adminError(znode.ErrBadArguments, "ADD: expected HOST:PEER-PORT")
	}
	_, theirs, err := e.askMember(ctx, words[0], &memberRequest{Do: "invite", Peer: e.self.peerAddr()})
	if err != nil {
		return "", adminError(znode.ErrNoNode, "%s: %v", words[0], err)
	}
	ctx, cancel := context.WithTimeout(ctx, admission.ChangeTime)
	defer cancel()
	for {
		members := e.replica.Load().Status().Members
		if slices.Contains(admission.Everyone(&members), theirs.Node) && e.steward.bookNow().find(theirs.Node) != nil {
			return datadir.NodeString(theirs.Node), nil
		}
		if ctx.Err() != nil {
			return "", adminError(znode.ErrUncertain, "node %s was asked to join, but has not joined yet", datadir.NodeString(theirs.Node))
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// invited answers invite.
func (e *ensemble) invited(theirs peer.Hello, q *memberRequest) (*memberAnswer, error) {
	if theirs.Cluster == ([16]byte{}) {
		return nil, errors.New("the inviting node is not a member itself")
	}
	if e.machine.waiting() == "" {
		return nil, errors.New("this node is already a member")
	}
	e.machine.do(func(f *founding.Machine) []founding.Effect { return f.Invited(founding.ID(theirs.Cluster), q.Peer) })
	return &memberAnswer{}, nil
}

// minPrefix is how many digits of an id name its node. With fewer, the name of a node that is gone,
// "b" or "db1", could be the beginning of another node's id.
const minPrefix = 4

// resolve finds a member by its id, the beginning of its id, or its name.
func (s *steward) resolve(word string) (uint64, error) {
	members := s.e.replica.Load().Status().Members
	found := named(admission.Everyone(&members), s.bookNow(), word)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, adminError(znode.ErrNoNode, "no member has the id or name %s", word)
	}
	return 0, adminError(znode.ErrBadArguments, "%d members match %s: use an id", len(found), word)
}

// named are the nodes among ids that a word may mean.
func named(ids []uint64, book roster, word string) (found []uint64) {
	for _, id := range ids {
		m := book.find(id)
		name := ""
		if m != nil {
			name = m.name
		}
		if isMeant(word, datadir.NodeString(id), name) {
			found = append(found, id)
		}
	}
	return found
}

// isMeant says whether a word may mean the node of this id and name.
func isMeant(word, id, name string) bool {
	return len(word) >= minPrefix && strings.HasPrefix(id, strings.ToLower(word)) || word != "" && name == word
}

// members lists all members, each with its status if it answers.
func (n *node) members(ctx context.Context) []frontend.AdminItem {
	st := n.replica.Status()
	var book roster
	if n.ens != nil {
		book = n.ens.steward.bookNow()
	}
	ids := admission.Everyone(&st.Members)
	all := make([]*nodeStatus, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		m := book.find(id)
		switch {
		case id == n.identity.Node:
			all[i] = n.status()
		case m != nil && m.peerAddr() != "":
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, statusTime)
				defer cancel()
				a, theirs, err := n.ens.askMember(ctx, m.peerAddr(), &memberRequest{Do: "status"})
				if err == nil && theirs.Node == id { // another node may have its address now
					all[i] = a.Status
				}
			})
		}
	}
	wg.Wait()
	return n.listed(&st, ids, all, book)
}

// listed makes the items of MEMBERS.
func (n *node) listed(st *replica.Status, ids []uint64, all []*nodeStatus, book roster) (items []frontend.AdminItem) {
	var head nodeStatus // the highest values of all members
	for _, s := range all {
		if s != nil {
			head.Last, head.StampMS = max(head.Last, s.Last), max(head.StampMS, s.StampMS)
		}
	}
	bit := func(b bool) string { return strconv.Itoa(map[bool]int{true: 1}[b]) }
	for i, id := range ids {
		m, s := book.find(id), all[i]
		item := frontend.AdminItem{Name: datadir.NodeString(id)}
		add := func(key, value string) { item.Facts = append(item.Facts, frontend.Fact{Key: key, Value: value}) }
		client := ""
		if n.ens == nil {
			m, client = &member{name: n.cfg.Name}, strings.Join(n.cfg.Listen, ",")
		} else if m == nil {
			m = &member{}
		}
		votes := slices.Contains(st.Members.Voters, id)
		role := "standby"
		switch {
		case id == st.Leader:
			role = "leader"
		case votes:
			role = "follower"
		case m.observer:
			role = "observer"
		}
		add("name", m.name)
		add("role", role)
		add("vote", bit(votes))
		add("up", bit(s != nil))
		add("peer", m.peerAddr())
		add("client", cmp.Or(m.clientAddr(), client))
		if s != nil {
			add("term", strconv.FormatUint(s.Term, 10))
			add("applied", strconv.FormatUint(s.Applied, 10))
			lag := head.Last - min(s.Applied, head.Last)
			behind := head.StampMS - s.StampMS
			if lag == 0 {
				behind = 0
			}
			add("lag", strconv.FormatUint(lag, 10))
			add("lag_ms", strconv.FormatInt(behind, 10))
			add("fsync_p99_ms", strconv.FormatFloat(float64(s.FsyncP99)/1000, 'f', 3, 64))
			agrees := "same"
			if theirs, err := replica.ParseDigests(s.Digests); n.ens != nil && err == nil {
				agrees = n.ens.steward.agreement(theirs)
			}
			add("digest", agrees)
			add("version", s.Version)
		}
		add("self", bit(id == n.identity.Node))
		items = append(items, item)
	}
	return items
}
