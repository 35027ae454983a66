package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEasedTimers: a server replaces itself, with the same process id and name, and has the slack; with the
// variable set it does not.
func TestEasedTimers(t *testing.T) {
	for _, tt := range []struct {
		env  string
		want time.Duration
	}{{"", timerSlack}, {easedVar + "=1", 50 * time.Microsecond}} {
		p := coordProcess(t, "server", "--data-dir", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0")
		p.Env = append(p.Env, tt.env)
		stderr, err := p.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		var line struct{ Message string }
		for d := json.NewDecoder(stderr); line.Message != "ready"; {
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
		}
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Process.Pid))
		if err != nil || len(threads) < 2 {
			t.Errorf("threads: %v, %v", threads, err)
		}
		for _, thread := range threads {
			file := fmt.Sprintf("/proc/%s/timerslack_ns", thread.Name())
			switch b, err := os.ReadFile(file); {
			case errors.Is(err, os.ErrPermission):
				t.Skip("only root sees the slack of another process's threads: not checked")
			case errors.Is(err, os.ErrNotExist): // the thread has ended meanwhile
			case err != nil || strings.TrimSpace(string(b)) != fmt.Sprint(int64(tt.want)):
				t.Errorf("%s: %s, %v; want %v", file, b, err, tt.want)
			}
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid)); err != nil || !strings.HasPrefix(string(b), "coord\x00server\x00") {
			t.Errorf("the command line is %q, %v", b, err)
		}
		if err := p.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
}
