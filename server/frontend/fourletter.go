package frontend

import (
	"fmt"
	"strings"

	"coord/server/watch"
	"coord/tree"
)

// fourLetterWords are ZooKeeper's. Those that this version does not answer are
// refused in ZooKeeper's words.
var fourLetterWords = map[string]bool{
	"conf": true, "cons": true, "crst": true, "dirs": true, "dump": true, "envi": true, "gtmk": true, "hash": true, "isro": true,
	"mntr": true, "ruok": true, "srst": true, "srvr": true, "stat": true, "stmk": true, "wchc": true, "wchp": true, "wchs": true,
}

// fourLetter answers a four-letter word, at once, and ends the connection.
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.out = append(c.mu.out, answer...)
	c.mu.answered++
	c.leaving = true
}

// zkVersion is what tools that look for ZooKeeper's version find, with our own
// behind it.
func (s *Server) zkVersion() string {
	return fmt.Sprintf("3.9.3-coord-%s, built on %s", s.cfg.Version, s.cfg.Built)
}

func (s *Server) srvr() string {
	var zxid string
	var znodes int
	s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
		zxid, znodes = t.Counters().Zxid.String(), t.Counts().Znodes
	})
	least, avg, most := s.stats.latency()
	conns, outstanding := s.load()
	return fmt.Sprintf("Zookeeper version: %s\nLatency min/avg/max: %d/%s/%d\nReceived: %d\nSent: %d\nConnections: %d\n"+
		"Outstanding: %d\nZxid: %s\nMode: %s\nNode count: %d\n",
		s.zkVersion(), least, decimal(avg), most, s.stats.received.Load(), s.stats.sent.Load(), conns,
		outstanding, zxid, s.mode(), znodes)
}

func (s *Server) mntr() string {
	var b strings.Builder
	for _, f := range s.facts() {
		b.WriteString("zk_" + f.Key + "\t" + f.Value + "\n")
	}
	return b.String()
}
