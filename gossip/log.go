package gossip

import (
	"bytes"
	"log"

	"github.com/rs/zerolog"
)

// levels of memberlist's lines: what heals by itself is no news.
var levels = map[string]zerolog.Level{
	"ERR": zerolog.WarnLevel, "ERROR": zerolog.WarnLevel, "WARN": zerolog.DebugLevel, "INFO": zerolog.DebugLevel, "DEBUG": zerolog.DebugLevel,
}

// logWriter takes lines like "[WARN] memberlist: what".
type logWriter struct{ log zerolog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	line, level := bytes.TrimSpace(p), zerolog.DebugLevel
	if rest, ok := bytes.CutPrefix(line, []byte("[")); ok {
		if name, text, ok := bytes.Cut(rest, []byte("] ")); ok {
			if l, known := levels[string(name)]; known {
				level, line = l, text
			}
		}
	}
	w.log.WithLevel(level).Msg(string(bytes.TrimPrefix(line, []byte("memberlist: "))))
	return len(p), nil
}

func newLogger(to zerolog.Logger) *log.Logger { return log.New(logWriter{to}, "", 0) }
