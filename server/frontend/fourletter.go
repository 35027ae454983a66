package frontend

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"coord/server/watch"
	"coord/tree"
)

// fourLetterWords are ZooKeeper's. Those that this version does not answer are
// refused in ZooKeeper's words.
var fourLetterWords = map[string]bool{
	"conf": true, "cons": true, "crst": true, "dirs": true, "dump": true, "envi": true, "gtmk": true, "hash": true, "isro": true,
	"mntr": true, "ruok": true, "srst": true, "srvr": true, "stat": true, "stmk": true, "wchc": true, "wchp": true, "wchs": true,
}

// fourLetter answers a four-letter word and ends the connection.
func (c *conn) fourLetter(word string) {
	s := c.s
	s.stats.received.Add(1)
	var answer string
	known := s.words[word] || s.words["*"]
	switch {
	case known && word == "ruok":
		answer = "imok"
	case known && word == "isro":
		answer = "rw"
	case known && word == "srvr":
		answer = s.srvr()
	case known && word == "mntr":
		answer = s.mntr()
	default:
		answer = word + " is not executed because it is not in the whitelist.\n"
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(WriteTime))
	_, _ = c.nc.Write([]byte(answer))
	s.stats.sent.Add(1)
}

// zkVersion is what tools that look for ZooKeeper's version find, with our own
// behind it.
func (s *Server) zkVersion() string {
	return fmt.Sprintf("3.9.3-coord-%s, built on %s", s.cfg.Version, s.cfg.Built)
}

func (s *Server) latency() (least int64, avg float64, most int64) {
	if n := s.stats.writes.Load(); n > 0 {
		avg = float64(s.stats.latencySum.Load()) / float64(n) / 1000
		least = max(s.stats.latencyMin.Load()-1, 0) / 1000
	}
	return least, avg, s.stats.latencyMax.Load() / 1000
}

// decimal prints as ZooKeeper does: up to four places, at least one.
func decimal(x float64) string {
	s := strings.TrimRight(strconv.FormatFloat(x, 'f', 4, 64), "0")
	if strings.HasSuffix(s, ".") {
		s += "0"
	}
	return s
}

func (s *Server) srvr() string {
	var zxid string
	var znodes int
	s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
		zxid, znodes = t.Counters().Zxid.String(), t.Counts().Znodes
	})
	least, avg, most := s.latency()
	return fmt.Sprintf("Zookeeper version: %s\nLatency min/avg/max: %d/%s/%d\nReceived: %d\nSent: %d\nConnections: %d\n"+
		"Outstanding: %d\nZxid: %s\nMode: %s\nNode count: %d\n",
		s.zkVersion(), least, decimal(avg), most, s.stats.received.Load(), s.stats.sent.Load(), s.connections(),
		s.stats.outstanding.Load(), zxid, s.mode(), znodes)
}

// mode is the node's role in ZooKeeper's words.
func (s *Server) mode() string {
	_, _, role, _ := s.cfg.Node.Hello()
	return role
}

// facts are all lines of mntr, keys without zk_, values without type.
func (s *Server) facts() []Fact {
	var counts tree.Counts
	var watches int
	s.cfg.Backend.View(func(t *tree.Tree, w *watch.Table) { counts, watches = t.Counts(), w.Len() })
	least, avg, most := s.latency()
	n := func(x int64) string { return strconv.FormatInt(x, 10) }
	facts := []Fact{
		{"version", s.zkVersion()},
		{"server_state", s.mode()},
		{"avg_latency", decimal(avg)},
		{"max_latency", n(most)},
		{"min_latency", n(least)},
		{"packets_received", n(s.stats.received.Load())},
		{"packets_sent", n(s.stats.sent.Load())},
		{"num_alive_connections", n(int64(s.connections()))},
		{"outstanding_requests", n(s.stats.outstanding.Load())},
		{"znode_count", n(int64(counts.Znodes))},
		{"watch_count", n(int64(watches))},
		{"ephemerals_count", n(int64(counts.Ephemerals))},
		{"approximate_data_size", n(counts.DataBytes)},
		{"global_sessions", n(int64(counts.Sessions))},
		{"connection_rejected", n(s.stats.rejected.Load())},
		{"auth_failed_count", n(s.stats.authFailed.Load())},
		{"coord_slow_clients", n(s.stats.slow.Load())},
		{"coord_limits_reached", n(s.stats.limitsReached.Load())},
		{"coord_protocol_errors", n(s.stats.protocolErrors.Load())},
		{"coord_writes", n(s.stats.writes.Load())},
	}
	return append(facts, s.cfg.Node.Facts()...)
}

func (s *Server) mntr() string {
	var b strings.Builder
	for _, f := range s.facts() {
		b.WriteString("zk_" + f.Key + "\t" + f.Value + "\n")
	}
	return b.String()
}
