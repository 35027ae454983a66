package cmd

import (
	"strings"
	"syscall"
	"testing"

	"coord/client"
)

// TestHintOfAServer: what is said to try next can help.
func TestHintOfAServer(t *testing.T) {
	for err, want := range map[error]string{
		syscall.ECONNREFUSED: "is a server running there?",
		syscall.ENOENT:       "is a server running there?",
		syscall.EACCES:       "the socket is for its owner and group",
		syscall.EHOSTUNREACH: "--timeout waits longer",
	} {
		if got := hintOf(&client.UnreachableError{Server: "unix:/s", Err: err}); !strings.Contains(got, want) {
			t.Errorf("%v: %q", err, got)
		}
	}
}
