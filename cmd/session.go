package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/snapshot"
	"coord/tree/znode"
)

// sessionFlag names the file of a session.
func sessionFlag() cli.Flag {
	return &cli.StringFlag{Name: "session", Usage: "the `FILE` of a session (coord session new); @FILE is the same", EnvVars: []string{"COORD_SESSION_FILE"}}
}

func sessionCommand() *command {
	return &command{
		name: "session", does: "make, keep and end sessions",
		details: `A session owns ephemeral znodes and locks. With a file it lives across commands: each command that uses the file gives it
its whole time again.`,
		examples: []string{"coord session new --ttl 10m --file s"}, min: 0, max: 0,
		run: func(context.Context, *run) error {
			return &usageError{msg: "a subcommand is missing", hint: "coord help session"}
		},
	}
}

// jsonSession is the content of a session's file, and the answer of session info.
type jsonSession struct {
	V        int    `json:"v"`
	Session  string `json:"session"`
	Password string `json:"password,omitempty"`
	TTLMS    int64  `json:"ttl_ms"`
	Addr     string `json:"addr,omitempty"`
	Count    *int   `json:"ephemerals,omitempty"`
}

func sessionNewCommand() *command {
	return &command{
		name: "session new", does: "make a session and keep it in a file", connects: true,
		details: `The file holds the session's password, so it is created with mode 0600. The session ends --ttl after the last command that
used the file, with all it owns.`,
		examples: []string{"coord session new --ttl 10m --file /run/deploy.session"},
		flags: []cli.Flag{
			&cli.DurationFlag{Name: "ttl", Usage: "how long it outlives the last command: `TIME`", Value: time.Minute, DefaultText: "1m"},
			&cli.StringFlag{Name: "file", Usage: "where to keep it: `FILE`"},
			boolFlag("force", "overwrite the file"),
		},
		asks: neverAsks,
		run: func(ctx context.Context, r *run) error {
			file, ttl := r.flags.String("file"), r.flags.Duration("ttl")
			switch {
			case file == "":
				return &usageError{msg: "--file is missing", hint: "coord session new --file FILE"}
			case ttl < leastTTL || ttl > text.MaxWaitMS*time.Millisecond:
				return usagef("--ttl %v: expected %v to 24h", ttl, leastTTL)
			}
			if _, err := os.Lstat(file); err == nil && !r.flags.Bool("force") && r.explainer == nil {
				return existing(file)
			}
			return r.alone(ctx, func(ctx context.Context, c *client.Conn) error {
				s, err := c.NewSession(ctx, client.SessionOptions{TTL: ttl, Hold: ttl})
				if err != nil {
					return err
				}
				if r.explainer == nil {
					if err := writeSession(file, s); err != nil {
						return errors.Join(err, c.CloseSession(ctx, 0))
					}
				}
				if err := c.DetachSession(ctx, ttl); err != nil {
					return err
				}
				id := znode.Hex(uint64(s.ID))
				if r.json {
					r.object(jsonSession{V: schema, Session: id, TTLMS: s.TTL.Milliseconds()})
				} else {
					r.printf("%s\n", id)
				}
				return nil
			})
		},
	}
}

// writeSession writes a session's file, completely or not at all.
func writeSession(file string, s client.Session) error {
	b := append(marshal(jsonSession{V: schema, Session: znode.Hex(uint64(s.ID)), Password: s.Password, TTLMS: s.TTL.Milliseconds()}), '\n')
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*.part") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return snapshot.SyncDir(filepath.Dir(file))
}

// readSession reads the file that --session names.
func (r *run) readSession() (client.Session, error) {
	file := strings.TrimPrefix(r.flags.String("session"), "@")
	if file == "" {
		return client.Session{}, &usageError{msg: "--session is missing", hint: "coord session new --file FILE makes one"}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return client.Session{}, &hinted{err, "coord session new --file " + file + " makes one"}
		}
		return client.Session{}, err
	}
	var s jsonSession
	id, idErr := uint64(0), error(nil)
	if err = json.Unmarshal(b, &s); err == nil {
		id, idErr = strconv.ParseUint(s.Session, 0, 64)
	}
	if err != nil || idErr != nil || len(s.Password) != 32 || s.TTLMS <= 0 {
		return client.Session{}, usagef("%s is not a session file", file)
	}
	return client.Session{ID: int64(id), Password: s.Password, TTL: time.Duration(s.TTLMS) * time.Millisecond}, nil
}

// inSession runs f with the session of the file, then leaves the session with its
// full TTL. The command's time limits only the connecting.
func (r *run) inSession(ctx context.Context, f func(ctx context.Context, c *client.Conn, h *client.Holder) error) error {
	s, err := r.readSession()
	if err != nil {
		return err
	}
	limited, cancel := r.limitWait(ctx) // --wait of lock acquire counts
	defer cancel()
	h, err := client.Hold(limited, r.inTurn("", nil), client.SessionOptions{TTL: s.TTL}, &s)
	if err != nil {
		return err
	}
	c, err := h.Conn(limited)
	if err == nil {
		err = f(ctx, c, h)
	}
	after, stop := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer stop()
	if left := h.Detach(after, s.TTL); err == nil {
		err = left
	}
	return err
}

func sessionRenewCommand() *command {
	return &command{
		name: "session renew", does: "give a session its whole time again", connects: true,
		examples: []string{"coord session renew --session s"}, flags: []cli.Flag{sessionFlag()}, asks: neverAsks,
		run: func(ctx context.Context, r *run) error {
			return r.inSession(ctx, func(context.Context, *client.Conn, *client.Holder) error { return nil })
		},
	}
}

func sessionCloseCommand() *command {
	return &command{
		name: "session close", args: "[ID]", does: "end a session with all it owns", max: 1, connects: true,
		details:  "Ends the session of --session and removes its file; or, with operator rights, ends the session with that id.",
		examples: []string{"coord session close --session s", "coord session close 0x100000000000001"}, flags: []cli.Flag{sessionFlag()}, asks: neverAsks,
		run: func(ctx context.Context, r *run) error {
			if len(r.args) == 1 {
				id, err := strconv.ParseUint(r.args[0], 0, 64)
				if err != nil {
					return usagef("%s: expected a session id such as 0x100000000000001", quote(r.args[0]))
				}
				return r.with(ctx, func(ctx context.Context, c *client.Conn) error { return c.CloseSession(ctx, int64(id)) })
			}
			s, err := r.readSession()
			if err != nil {
				return err
			}
			err = r.alone(ctx, func(ctx context.Context, c *client.Conn) error {
				if _, err := c.ResumeSession(ctx, s, client.SessionOptions{TTL: s.TTL}); err != nil {
					return err
				}
				return c.CloseSession(ctx, 0)
			})
			if r.explainer == nil && (err == nil || errors.Is(err, znode.ErrSessionExpired)) {
				return errors.Join(err, os.Remove(strings.TrimPrefix(r.flags.String("session"), "@")))
			}
			return err
		},
	}
}

func sessionLsCommand() *command {
	return &command{
		name: "session ls", does: "list the sessions of the cluster", connects: true,
		details:  "One line each: id, ttl, number of ephemeral znodes, and the address of its client if one is connected. Needs operator rights.",
		examples: []string{"coord session ls"},
		run: func(ctx context.Context, r *run) error {
			return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
				all, err := c.Sessions(ctx)
				for _, s := range all {
					id := znode.Hex(uint64(s.ID))
					if r.json {
						r.object(jsonSession{V: schema, Session: id, TTLMS: s.TTL.Milliseconds(), Addr: s.Addr, Count: &s.Ephemerals})
						continue
					}
					r.printf("%s %v %d %s\n", id, s.TTL, s.Ephemerals, cmp.Or(s.Addr, "-"))
				}
				return err
			})
		},
	}
}
