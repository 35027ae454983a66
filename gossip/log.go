package gossip

import (
	"bytes"
	"log"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// levels maps memberlist's levels to ours: what heals by itself is no news.
var levels = map[string]zerolog.Level{
	"ERR": zerolog.WarnLevel, "ERROR": zerolog.WarnLevel, "WARN": zerolog.DebugLevel, "INFO": zerolog.DebugLevel, "DEBUG": zerolog.DebugLevel,
}

// warnEvery is how often the same trouble is logged as a warning: while a host is away memberlist
// reports the same about it every second.
const warnEvery = time.Minute

// logWriter takes lines of the form "[WARN] memberlist: text".
type logWriter struct {
	log zerolog.Logger

	mu     sync.Mutex
	warned map[string]time.Time // by the text before the first colon
}

func (w *logWriter) Write(p []byte) (int, error) {
	line, level := bytes.TrimSpace(p), zerolog.DebugLevel
	if rest, ok := bytes.CutPrefix(line, []byte("[")); ok {
		if name, text, ok := bytes.Cut(rest, []byte("] ")); ok {
			if l, known := levels[string(name)]; known {
				level, line = l, text
			}
		}
	}
	line = bytes.TrimPrefix(line, []byte("memberlist: "))
	if level == zerolog.WarnLevel && !w.mayWarn(line, time.Now()) {
		level = zerolog.DebugLevel
	}
	w.log.WithLevel(level).Msg(string(line))
	return len(p), nil
}

func (w *logWriter) mayWarn(line []byte, now time.Time) bool {
	what, _, _ := bytes.Cut(line, []byte(":"))
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, ok := w.warned[string(what)]; ok && now.Sub(last) < warnEvery || len(w.warned) >= maxMembers {
		return false
	}
	w.warned[string(what)] = now
	return true
}

func newLogger(to zerolog.Logger) *log.Logger {
	return log.New(&logWriter{log: to, warned: map[string]time.Time{}}, "", 0)
}
