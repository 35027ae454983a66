package frontend

import (
	"fmt"
	"slices"
)

// fourLetterWords are ZooKeeper's words, each with its handler. A connection asks one word and is
// closed.
var fourLetterWords = map[string]func(s *Server, asker *conn) string{
	"conf": (*Server).conf, "cons": (*Server).cons, "crst": (*Server).crst, "dirs": (*Server).dirs,
	"dump": (*Server).dump, "envi": (*Server).envi, "gtmk": (*Server).traceMask, "hash": (*Server).hash,
	"isro": (*Server).isro, "mntr": (*Server).mntr, "ruok": (*Server).ruok, "srst": (*Server).srst,
	"srvr": (*Server).srvr, "stat": (*Server).stat, "stmk": (*Server).traceMask, "wchc": (*Server).wchc,
	"wchp": (*Server).wchp, "wchs": (*Server).wchs,
}

// fourLetter answers a four-letter word at once and ends the connection.
func (c *conn) fourLetter(word string) {
	s := c.s
	s.stats.received.Add(1)
	s.stats.bytesReceived.Add(int64(len(word)))
	c.total.Add(1)
	answer, ok := refusedWord(s.cfg.FourLetter, word, !s.leaderless.Load())
	if !ok {
		answer = fourLetterWords[word](s, c)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.out = append(c.mu.out, answer...)
	c.mu.answered++
	c.leaving = true
}

// notServing is ZooKeeper's message that it has no quorum.
const notServing = "This ZooKeeper instance is not currently serving requests"

// refusedWord returns the answer to a word that is not listed, or that a node that does not serve
// refuses, as a ZooKeeper without a quorum does. If ok is false, the word is not refused and its
// handler must answer it.
func refusedWord(listed []string, word string, serves bool) (answer string, ok bool) {
	switch {
	case !slices.Contains(listed, word) && !slices.Contains(listed, "*"):
		return word + " is not executed because it is not in the whitelist.\n", true
	case serves:
		return "", false
	}
	switch word {
	case "ruok", "envi", "gtmk", "stmk":
		return "", false
	case "isro":
		return "null", true
	case "hash":
		return notServing, true
	}
	return notServing + "\n", true
}

// zkVersion is the version in the form that ZooKeeper's tools look for, followed by our own
// version.
func zkVersion(version, built string) string {
	return fmt.Sprintf("3.9.3-coord-%s, built on %s", version, built)
}

func (s *Server) zkVersion() string { return zkVersion(s.cfg.Version, s.cfg.Built) }
