package frontend

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// The answers have the form of ZooKeeper 3.9; docs/four-letter-words.md lists the differences.
// Nothing here holds a lock while it formats text, except for the text about one connection or one
// session.

func (s *Server) ruok(*conn) string { return "imok" }

func (s *Server) isro(*conn) string { return "rw" }

// traceMask answers gtmk and stmk: nothing is traced, and tracing cannot be turned on.
func (s *Server) traceMask(*conn) string { return "0" }

func (s *Server) srvr(*conn) string {
	return "Zookeeper version: " + s.zkVersion() + "\n" + s.figures()
}

func (s *Server) stat(asker *conn) string {
	var b strings.Builder
	b.WriteString("Zookeeper version: " + s.zkVersion() + "\nClients:\n")
	for _, c := range s.clients() {
		b.WriteString(c.line(c == asker, false))
	}
	return b.String() + "\n" + s.figures()
}

// figures are the lines at the end of srvr and stat.
func (s *Server) figures() string {
	var zxid znode.Zxid
	var znodes int
	s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) { zxid, znodes = t.Counters().Zxid, t.Counts().Znodes })
	least, avg, most := s.stats.latency()
	conns, outstanding := s.load()
	mode := s.mode()
	figures := fmt.Sprintf("Latency min/avg/max: %d/%s/%d\nReceived: %d\nSent: %d\nConnections: %d\n"+
		"Outstanding: %d\nZxid: %s\nMode: %s\nNode count: %d\n",
		least, decimal(avg), most, s.stats.received.Load(), s.stats.sent.Load(), conns,
		outstanding, zxid, mode, znodes)
	if mode == modeLeader { // -1 is ZooKeeper's value for none yet. A proposal holds many txns here, and its size is not counted
		figures += "Proposal sizes last/min/max: -1/-1/-1\n"
	}
	return figures
}

func (s *Server) mntr(*conn) string { return lines("zk_", s.facts(), "\t") }

func (s *Server) conf(*conn) string { return lines("", s.cfg.Node.Conf(), "=") }

func (s *Server) envi(*conn) string {
	env := append([]Fact{{"zookeeper.version", s.zkVersion()}}, s.cfg.Node.Environment()...)
	return "Environment:\n" + lines("", env, "=")
}

func lines(prefix string, facts []Fact, between string) string {
	var b strings.Builder
	for _, f := range facts {
		b.WriteString(prefix + f.Key + between + f.Value + "\n")
	}
	return b.String()
}

func (s *Server) dirs(*conn) string {
	snapshots, log := s.cfg.Node.Sizes()
	return fmt.Sprintf("datadir_size: %d\nlogdir_size: %d\n", snapshots, log)
}

// hash returns the digest of the current state. ZooKeeper lists those of the last transactions, as
// numbers of 63 bits, so ours is cut to 63 bits.
func (s *Server) hash(*conn) string {
	var zxid znode.Zxid
	var digest tree.Digest
	s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) { zxid, digest = t.Counters().Zxid, t.Digest() })
	return fmt.Sprintf("%x: %d\n", uint64(zxid), digest.Lo<<1>>1)
}

func (s *Server) srst(*conn) string {
	s.stats.reset()
	s.cfg.Node.ResetStats()
	return "Server stats reset.\n"
}

func (s *Server) crst(*conn) string {
	for _, c := range s.clients() {
		c.total.Store(0)
		c.mu.Lock()
		c.mu.traffic.reset()
		c.mu.Unlock()
	}
	return "Connection stats reset.\n"
}

func (s *Server) cons(asker *conn) string {
	var b strings.Builder
	for _, c := range s.clients() {
		b.WriteString(c.line(c == asker, true))
	}
	return b.String() + "\n"
}

// clients lists the connections in the order in which they were opened.
func (s *Server) clients() []*conn {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *conn) int {
		return cmp.Or(a.est.Compare(b.est), strings.Compare(a.Client(), b.Client()))
	})
	return all
}

// line is a connection's line in stat or, if long, in cons. Only a client that has introduced
// itself, by a session or by its first line, gets the long form. It takes mu.
func (c *conn) line(asks, long bool) string {
	session, timeout := c.sessionOf()
	c.mu.Lock()
	defer c.mu.Unlock()
	o, x := &c.mu.outbox, &c.mu.traffic
	line := fmt.Sprintf(" %s[%x](queued=%d,recved=%d,sent=%d", c.Client(), o.interest(c, asks), len(o.queue)-o.head, c.total.Load(), x.sent)
	if !long || session == 0 && (asks || !o.until.IsZero()) {
		return line + ")\n"
	}
	lop, cxid, last := "NA", "", int64(0)
	if x.op != "" {
		lop = x.op
	}
	if x.cxid >= 0 {
		cxid = fmt.Sprintf(",lcxid=0x%x", x.cxid)
	}
	if !x.at.IsZero() {
		last = x.at.Sub(c.s.started).Milliseconds()
	}
	return fmt.Sprintf("%s,sid=0x%x,lop=%s,est=%d,to=%d%s,lzxid=0x%x,lresp=%d,llat=%d,minlat=%d,avglat=%d,maxlat=%d)\n",
		line, uint64(session), lop, c.est.UnixMilli(), timeout.Milliseconds(), cxid, uint64(x.zxid), last,
		x.last.Milliseconds(), x.least.Milliseconds(), x.average().Milliseconds(), x.most.Milliseconds())
}

// interest says what the server does next on the connection, as the bits of Java's SelectionKey: 1
// is reading, 4 writing. mu is held.
func (o *outbox) interest(c *conn, asks bool) (ops int) {
	if asks || o.broken {
		return 0
	}
	if !o.retired && !o.ending && !c.isCrowded() {
		ops = 1
	}
	if len(o.out) > 0 || o.sending > 0 {
		ops |= 4
	}
	return ops
}

// clientName is the remote end of a connection as Java prints it. The remote end of a unix socket
// has no name, so the name of the local socket stands for it.
func clientName(nc net.Conn) string {
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		return fmt.Sprintf("/%s:%d", javaAddr(a.AddrPort().Addr()), a.Port)
	case *net.UnixAddr:
		return "/unix:" + nc.LocalAddr().String()
	default:
		return "/" + a.String()
	}
}

// javaAddr formats an address as Java does: eight groups of IPv6, in brackets.
func javaAddr(a netip.Addr) string {
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	bytes := a.As16()
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf("%x", int(bytes[2*i])<<8|int(bytes[2*i+1]))
	}
	name := strings.Join(groups, ":")
	if a.Zone() != "" {
		name += "%" + a.Zone()
	}
	return "[" + name + "]"
}

// holder is what a watcher of this package has in addition to watch.Watcher: a session, or at least
// a client's address.
type holder interface {
	Session() int64
	Client() string
}

// watcherName is the name of a watcher in wchc and wchp: its session, or the client's address if it
// has none.
func watcherName(w watch.Watcher) string {
	h, ok := w.(holder)
	switch {
	case !ok:
		return "0x0"
	case h.Session() == 0:
		return h.Client()
	}
	return fmt.Sprintf("0x%x", uint64(h.Session()))
}

// watches returns the watch table. Counting its watches needs no state lock.
func (s *Server) watches() (w *watch.Table) {
	s.cfg.Backend.View(func(_ *tree.Tree, table *watch.Table) { w = table })
	return w
}

func (s *Server) wchs(*conn) string {
	sum := s.watches().Summary()
	return fmt.Sprintf("%d connections watching %d paths\nTotal watches:%d\n", sum.Watchers, sum.Paths, sum.Watches)
}

func (s *Server) wchc(*conn) string {
	var b strings.Builder
	for _, w := range s.watches().ByWatcher() {
		b.WriteString(watcherName(w.Watcher) + "\n")
		for _, path := range w.Paths {
			b.WriteString("\t" + path + "\n")
		}
	}
	return b.String() + "\n"
}

func (s *Server) wchp(*conn) string {
	var b strings.Builder
	for _, p := range s.watches().ByPath() {
		b.WriteString(p.Path + "\n")
		for _, w := range p.Watchers {
			b.WriteString("\t" + watcherName(w) + "\n")
		}
	}
	return b.String() + "\n"
}

// dump lists the sessions, their ephemerals, and the connections that end at a deadline unless
// something arrives.
func (s *Server) dump(*conn) string {
	var sessions []tree.Session
	var owners []int64
	s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
		t.Sessions(math.MinInt64, func(x tree.Session, ephemerals int) bool {
			sessions = append(sessions, x)
			if ephemerals > 0 {
				owners = append(owners, x.ID)
			}
			return true
		})
	})
	var b strings.Builder
	b.WriteString("SessionTracker dump:\n")
	s.dumpSessions(&b, sessions)
	s.dumpEphemerals(&b, owners)
	b.WriteString("Connections dump:\n")
	var sets expirySets
	for _, c := range s.clients() {
		session, _ := c.sessionOf()
		at, ok := s.deadline(session)
		if !ok {
			c.mu.Lock()
			at = c.mu.until
			c.mu.Unlock()
		}
		if !at.IsZero() {
			sets.add(at, fmt.Sprintf("\tip: %s sessionId: 0x%x\n", c.Client(), uint64(session)))
		}
	}
	sets.print(&b, "Connections")
	return b.String()
}

func (s *Server) deadline(session int64) (time.Time, bool) {
	if session == 0 || s.cfg.SessionDeadline == nil {
		return time.Time{}, false
	}
	return s.cfg.SessionDeadline(session)
}

// dumpSessions lists the sessions by their deadlines. Where this node does not track deadlines, it
// lists them by their timeouts, like a ZooKeeper node that does not lead.
func (s *Server) dumpSessions(b *strings.Builder, sessions []tree.Session) {
	mode := s.mode()
	leads := mode == modeLeader || mode == modeStandalone
	if !leads || s.cfg.SessionDeadline == nil && len(sessions) > 0 {
		fmt.Fprintf(b, "Global Sessions(%d):\n", len(sessions))
		for _, x := range sessions {
			fmt.Fprintf(b, "0x%x\t%dms\n", uint64(x.ID), x.TimeoutMS)
		}
		return
	}
	var sets expirySets
	for _, x := range sessions {
		at, ok := s.deadline(x.ID)
		if !ok { // so new that its deadline is not tracked yet: all its time is left
			at = time.Now().Add(time.Duration(x.TimeoutMS) * time.Millisecond)
		}
		sets.add(at, fmt.Sprintf("\t0x%x\n", uint64(x.ID)))
	}
	sets.print(b, "Session")
}

// dumpEphemerals reads the sessions one by one: a single View over very many would keep writes
// waiting.
func (s *Server) dumpEphemerals(b *strings.Builder, owners []int64) {
	var list strings.Builder
	n := 0
	for _, id := range owners {
		var paths []string
		s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) { paths = t.Ephemerals(id) })
		if len(paths) == 0 { // the session has ended meanwhile
			continue
		}
		n++
		fmt.Fprintf(&list, "0x%x:\n", uint64(id))
		for _, path := range paths {
			list.WriteString("\t" + path + "\n")
		}
	}
	fmt.Fprintf(b, "ephemeral nodes dump:\nSessions with Ephemerals (%d):\n%s", n, list.String())
}

// expirySets groups lines by the second in which something expires.
type expirySets []expiring

type expiring struct {
	second int64
	line   string
}

func (e *expirySets) add(at time.Time, line string) {
	*e = append(*e, expiring{at.Add(time.Second - 1).Unix(), line}) // rounded up: not before it expires
}

func (e expirySets) print(b *strings.Builder, title string) {
	slices.SortStableFunc(e, func(x, y expiring) int { return cmp.Compare(x.second, y.second) })
	var sets strings.Builder
	n := 0
	for i := 0; i < len(e); n++ {
		next := i
		for next < len(e) && e[next].second == e[i].second {
			next++
		}
		fmt.Fprintf(&sets, "%d expire at %s:\n", next-i, time.Unix(e[i].second, 0).Format(javaDate))
		for ; i < next; i++ {
			sets.WriteString(e[i].line)
		}
	}
	fmt.Fprintf(b, "%s Sets (%d)/(%d):\n%s", title, n, len(e), sets.String())
}

// javaDate is the format of Java's Date.toString.
const javaDate = "Mon Jan 02 15:04:05 MST 2006"
