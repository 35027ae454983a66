package server

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestListenOverAFile: a file that is not a socket is not reported as another process's, and is not removed.
func TestListenOverAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "coord.sock")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Dir(file)} {
		if _, err := listen(t.Context(), []string{"unix:" + path}); !errors.Is(err, ErrConfig) || errors.Is(err, ErrInUse) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "mine" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// TestOverlap: an address that clashes with an earlier one of this process is told from one that
// another process has.
func TestOverlap(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for addr, want := range map[string]bool{
		"127.0.0.1:" + port: true, ":" + port: true, "0.0.0.0:" + port: true,
		"127.0.0.2:" + port: false, "127.0.0.1:1" + port: false, "127.0.0.1": false,
	} {
		if overlap(l, addr) != want {
			t.Errorf("%s beside %s: %v", addr, l.Addr(), !want)
		}
	}
}
