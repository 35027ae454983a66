package frontend

import "fmt"

// fourLetterWords are ZooKeeper's, each with what answers it. A connection asks
// one and is closed.
var fourLetterWords = map[string]func(s *Server, asker *conn) string{
	"conf": (*Server).conf, "cons": (*Server).cons, "crst": (*Server).crst, "dirs": (*Server).dirs,
	"dump": (*Server).dump, "envi": (*Server).envi, "gtmk": (*Server).traceMask, "hash": (*Server).hash,
	"isro": (*Server).isro, "mntr": (*Server).mntr, "ruok": (*Server).ruok, "srst": (*Server).srst,
	"srvr": (*Server).srvr, "stat": (*Server).stat, "stmk": (*Server).traceMask, "wchc": (*Server).wchc,
	"wchp": (*Server).wchp, "wchs": (*Server).wchs,
}

// fourLetter answers a four-letter word, at once, and ends the connection.
func (c *conn) fourLetter(word string) {
	s := c.s
	s.stats.received.Add(1)
	s.stats.bytesReceived.Add(int64(len(word)))
	c.total.Add(1)
	answer := word + " is not executed because it is not in the whitelist.\n"
	if s.words[word] || s.words["*"] {
		answer = fourLetterWords[word](s, c)
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
