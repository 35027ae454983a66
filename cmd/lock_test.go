package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// TestLockLeavesANodeAlone: of two servers the first is cut off from the others: it
// takes connections, and nothing comes of them. The session goes on at the other one.
func TestLockLeavesANodeAlone(t *testing.T) {
	resumed := filepath.Join(t.TempDir(), "resumed")
	answer := func(r *text.Request) []byte {
		out := text.Reply{Kind: text.KindOK}
		switch r.Verb {
		case text.VerbSession:
			out.Fields = []text.Field{text.Hex(text.KeyID, 0x51), text.Str(text.KeyPassword, strings.Repeat("ab", 16))}
		case text.VerbLock:
			out.Fields = []text.Field{text.Hex(text.KeyToken, 9), text.Str(text.KeyPath, r.Path+"/lock-0000000000")}
		}
		return reply(out)
	}
	confirmed := false // of the holder's one connection at a time
	fake(t, func(r *text.Request) []byte {
		switch isSync := r.Verb == text.VerbSync; {
		case confirmed && r.Action == text.ResumeSession:
			return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoLeader})
		case confirmed && isSync:
			return nil
		case isSync:
			confirmed = true
		}
		return answer(r)
	})
	alone := os.Getenv("COORD_SERVER")
	fake(t, func(r *text.Request) []byte {
		if r.Action == text.ResumeSession {
			if err := os.WriteFile(resumed, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
		return answer(r)
	})
	t.Setenv("COORD_SERVER", alone+","+os.Getenv("COORD_SERVER"))
	got := coord(t, "", "lock", "--ttl", "9s", "--grace", "1s", "/l", "--", "sh", "-c", "while [ ! -e "+resumed+" ]; do sleep 0.02; done")
	if got.code != exitOK {
		t.Errorf("%+v", got)
	}
}
