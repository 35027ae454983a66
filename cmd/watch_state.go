package cmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"coord/client"
	"coord/snapshot"
	"coord/tree/znode"
)

// saveIdle is how often the state is saved while nothing is delivered, so that the
// saved position does not become older than what the server remembers.
const saveIdle = time.Minute

// saveBusy is how often the state is saved while changes follow each other.
const saveBusy = 100 * time.Millisecond

// watchState is the file of --since last:
//
//	coord-watch-state 1
//	path /app
//	zxid 0x100000005
//	told 0                  of this txn's changes, those delivered; 0: all
//	there yes               whether the znode was
//
// The watch holds the file's lock, also across renames: it locks the new file
// before it renames it.
type watchState struct {
	file    string
	path    string
	at      *position // nil: nothing was delivered yet
	missing bool

	f     *os.File
	saved position
	when  time.Time // of the last save
	soon  bool      // settle has to save
}

const stateTitle = "coord-watch-state 1"

// stateDir is the folder for coord's files that are not configuration and may be lost.
func stateDir() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // the specification says to ignore relative paths
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "coord"), nil
}

// openWatchState finds the file, or creates an empty one, and locks it.
func openWatchState(r *run, path string, recursive bool) (*watchState, error) {
	s := &watchState{file: r.flags.String("state"), path: path}
	if s.file == "" {
		dir, err := stateDir()
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err != nil {
			return nil, &hinted{err, "--state FILE names another file"}
		}
		s.file = filepath.Join(dir, stateName(r.flags.String("server"), path, recursive))
	}
	for {
		f, err := os.OpenFile(s.file, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = f.Close()
			return nil, &hinted{&busyError{s.file}, "each watch with --since last needs a file of its own: --state FILE"}
		}
		if s.f = f; s.isNamed() {
			break
		}
		_ = f.Close() // another process has just replaced the file
	}
	if err := s.read(); err != nil {
		_ = s.f.Close()
		return nil, err
	}
	return s, nil
}

// stateName is the default file of a watch.
func stateName(server, path string, recursive bool) string {
	if server == "" {
		server = client.DefaultServer
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%v", server, path, recursive))
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' {
			return c
		}
		return '-'
	}, server+path)
	if len(name) > 80 {
		name = name[:80]
	}
	return "watch-" + name + "-" + hex.EncodeToString(sum[:4])
}

// isNamed says whether the open file is the one that has this name.
func (s *watchState) isNamed() bool {
	is, err := s.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(s.file)
	return err == nil && os.SameFile(is, named)
}

func (s *watchState) read() error {
	b, err := io.ReadAll(io.LimitReader(s.f, 64<<10))
	if err != nil || len(b) == 0 {
		return err
	}
	bad := &usageError{msg: s.file + " is not the state file of a watch", hint: "--state FILE names another file"}
	title, rest, _ := bytes.Cut(b, []byte{'\n'})
	if string(title) != stateTitle {
		return bad
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(rest)) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		fields[k] = v
	}
	zxid, err1 := strconv.ParseUint(fields["zxid"], 0, 64)
	told, err2 := strconv.Atoi(fields["told"])
	switch {
	case err1 != nil || err2 != nil || told < 0:
		return bad
	case fields["path"] != s.path:
		return &usageError{msg: s.file + " is the state file of a watch of " + fields["path"], hint: "--state FILE names another file"}
	}
	s.saved = position{znode.Zxid(zxid), told}
	at := s.saved
	s.at, s.missing = &at, fields["there"] == "no"
	return nil
}

// urgency says when a position is saved.
type urgency uint8

const (
	inAWhile urgency = iota // after saveIdle
	soon                    // when nothing more waits to be delivered, or after saveBusy
	atOnce
)

// reached notes a position. It does nothing if s is nil.
func (s *watchState) reached(at position, missing bool, when urgency) error {
	if s == nil {
		return nil
	}
	s.at, s.missing = &at, missing
	s.soon = s.soon || when == soon
	switch since := time.Since(s.when); {
	case when == atOnce, s.when.IsZero(), since >= saveIdle, when == soon && since >= saveBusy:
		return s.save()
	}
	return nil
}

// settle saves a position that was noted as soon.
func (s *watchState) settle() error {
	if s == nil || !s.soon {
		return nil
	}
	return s.save()
}

func (s *watchState) save() error {
	s.soon = false
	if s.at == nil || *s.at == s.saved {
		return nil
	}
	there := "yes"
	if s.missing {
		there = "no"
	}
	text := fmt.Sprintf("%s\npath %s\nzxid %s\ntold %d\nthere %s\n", stateTitle, s.path, s.at.zxid, s.at.told, there)
	fresh := s.file + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a watch that was killed
		return err
	}
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	if err == nil {
		err = os.Rename(fresh, s.file)
	}
	if err != nil {
		_ = os.Remove(fresh)
		_ = f.Close()
		return err
	}
	_ = s.f.Close()
	s.f, s.saved, s.when = f, *s.at, time.Now()
	return snapshot.SyncDir(filepath.Dir(s.file))
}

// close saves what has waited.
func (s *watchState) close() error {
	err := s.save()
	_ = s.f.Close()
	return err
}
