package cmd

import (
	"strings"
	"syscall"
	"testing"

	"coord/client"
	"coord/tree/znode"
)

// TestHintOfAServer: the hint fits the error.
func TestHintOfAServer(t *testing.T) {
	for err, want := range map[error]string{
		syscall.ECONNREFUSED: "is a server running there?",
		syscall.ENOENT:       "is a server running there?",
		syscall.EACCES:       "only the owner and group of the socket may use it",
		syscall.EHOSTUNREACH: "--timeout waits longer",
	} {
		if got := hintOf(&client.UnreachableError{Server: "unix:/s", Err: err}); !strings.Contains(got, want) {
			t.Errorf("%v: %q", err, got)
		}
	}
}

// TestHintOfNoLeader: the error alone does not say what to do, so it has a hint.
func TestHintOfNoLeader(t *testing.T) {
	if got := hintOf(&client.Error{Code: znode.ErrNoLeader, Op: -1}); !strings.Contains(got, "coord members") {
		t.Errorf("%q", got)
	}
}
