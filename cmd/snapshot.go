package cmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/snapshot/restore"
	"coord/tree/znode"
)

const saveDetails = `Takes a backup of everything, exact at one moment, while the server runs; no one waits for it.
With --data-dir it is read from the data folder of a server that does not run.
FILE.part becomes FILE once all has come, was written to the disk, read back and checked; a FILE that exists is
not overwritten without --force. With - the backup goes to stdout: it is whole if the exit code is 0.
It needs the rights of an operator: --auth-file of the super user, the server's unix socket, or loopback.
--timeout limits it only if it is given; else 30 seconds without a byte end it.`

func saveFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("force", "overwrite FILE"),
		&cli.StringFlag{Name: "data-dir", Usage: "read the data folder `DIR` of a stopped server instead of asking a running one"},
	}
}

func snapshotCommand() *command {
	return &command{
		name: "snapshot", args: "FILE|-", does: "take a backup of the whole state", min: 1, max: 1, connects: true,
		details:  saveDetails,
		examples: []string{"coord snapshot backup.coord", "coord snapshot - | ssh host 'cat > backup.coord'", "coord snapshot --data-dir /var/lib/coord backup.coord"},
		flags:    saveFlags(),
		run:      func(ctx context.Context, r *run) error { return runSave(ctx, r, r.file(0)) },
	}
}

func snapshotSaveCommand() *command {
	return &command{
		name: "snapshot save", args: "[FILE|-]", does: "the long form of coord snapshot", max: 1, connects: true,
		details:  saveDetails,
		examples: []string{"coord snapshot save --to backup.coord", "coord snapshot save --force backup.coord"},
		flags:    append(saveFlags(), &cli.StringFlag{Name: "to", Usage: "the `FILE` to write, or -"}),
		run: func(ctx context.Context, r *run) error {
			to := r.flags.String("to")
			if (to == "") == (len(r.args) == 0) {
				return usagef("expected either FILE or --to FILE")
			}
			if to == "" {
				to = r.file(0)
			}
			return runSave(ctx, r, to)
		},
	}
}

// saved describes a finished backup.
type saved struct {
	V          int    `json:"v"`
	File       string `json:"file"`
	Zxid       string `json:"zxid"`
	Bytes      int64  `json:"bytes"`
	SHA256     string `json:"sha256"` // of the whole file
	Znodes     *int64 `json:"znodes,omitempty"`
	Sessions   *int64 `json:"sessions,omitempty"`
	Ephemerals *int64 `json:"ephemerals,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Verified   string `json:"verified"` // checksum: as received; decode: every record, read back from disk
}

func runSave(ctx context.Context, r *run, file string) error {
	giveWay()
	write := r.fetch
	if dir := r.flags.String("data-dir"); dir != "" {
		if r.given("server") {
			return usagef("--data-dir and --server exclude each other")
		}
		if r.explainer != nil {
			return usagef("--explain and --data-dir exclude each other: no request is sent")
		}
		write = func(ctx context.Context, w io.Writer) (client.Snapshot, error) { return r.readStopped(ctx, dir, w) }
	}
	if r.explainer != nil {
		_, err := write(ctx, io.Discard)
		return err
	}
	if file == "-" {
		return r.saveToStdout(ctx, write)
	}
	part, err := createPart(file, r.flags.Bool("force"))
	if err != nil {
		return err
	}
	defer part.remove()
	got, err := write(ctx, part)
	if err != nil {
		return err
	}
	if err := part.sync(); err != nil {
		return err
	}
	r.progress("coord: %s written, reading it back", size(got.Bytes))
	info, err := abandonable(ctx, func() (snapshot.Survey, error) {
		return snapshot.TakeSurvey(part.name, snapshot.SurveyOptions{Pace: readBackPace})
	})
	r.progressEnd()
	if err != nil {
		return err
	}
	if err := part.publish(); err != nil {
		return err
	}
	s := info.Summary
	r.savedReport(saved{
		V: schema, File: file, Zxid: got.Zxid.String(), Bytes: got.Bytes, SHA256: hex.EncodeToString(got.SHA256[:]),
		Znodes: &s.Znodes, Sessions: &s.Sessions, Ephemerals: &s.Ephemerals, Digest: s.Digest.String(), Verified: snapshot.Decode.String(),
	})
	return nil
}

// readBackPace is a compromise: a server on the same host must not notice the
// reading, but the user waits for it.
var readBackPace = snapshot.Pace{Rests: 1, Longest: 5 * time.Millisecond}

func (r *run) savedReport(s saved) {
	if r.json {
		r.object(s)
		return
	}
	r.table([]client.Fact{
		{Name: "file", Value: s.File}, {Name: "zxid", Value: s.Zxid}, {Name: "znodes", Value: count(*s.Znodes)},
		{Name: "sessions", Value: count(*s.Sessions)}, {Name: "ephemerals", Value: count(*s.Ephemerals)},
		{Name: "size", Value: size(s.Bytes)}, {Name: "sha256", Value: s.SHA256}, {Name: "digest", Value: s.Digest},
		{Name: "verified", Value: "every record, read back from the disk"},
	})
}

func (r *run) saveToStdout(ctx context.Context, write func(context.Context, io.Writer) (client.Snapshot, error)) error {
	if r.outTTY {
		return &usageError{msg: "a backup is not written to a terminal", hint: "coord snapshot FILE, or coord snapshot - > FILE"}
	}
	got, err := write(ctx, r.out)
	if err != nil {
		return err
	}
	if err := r.flush(); err != nil {
		return err
	}
	sum := hex.EncodeToString(got.SHA256[:])
	if r.json {
		r.note("%s", marshal(saved{V: schema, File: "-", Zxid: got.Zxid.String(), Bytes: got.Bytes, SHA256: sum, Verified: snapshot.Checksum.String()}))
		return nil
	}
	r.note("coord: a backup of zxid %s, %d bytes, sha256 %s", got.Zxid, got.Bytes, sum)
	return nil
}

// fetch downloads a backup from a running server.
func (r *run) fetch(ctx context.Context, w io.Writer) (client.Snapshot, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return client.Snapshot{}, err
	}
	defer r.leave(c)
	ctx, _, cancel := r.long(ctx)
	defer cancel()
	start := time.Now()
	defer r.progressEnd()
	got, err := c.Snapshot(ctx, w, client.SnapshotOptions{Progress: func(_ znode.Zxid, n int64) { r.progressOf("received", n, start) }})
	if err == nil && r.explainer == nil {
		r.noteLeaderless(ctx, c)
	}
	return got, err
}

// noteLeaderless says so if the node has no leader: other nodes may have one, and
// newer data. The backup is complete either way, so it is no failure if the node does
// not answer.
func (r *run) noteLeaderless(ctx context.Context, c *client.Conn) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	if h, err := c.Greet(ctx, clientName); err == nil && h.Role == "candidate" {
		r.note("coord: %s has no leader now: changes that other nodes have made without it are not in the backup", c.Server())
	}
}

func (r *run) progressOf(what string, n int64, start time.Time) {
	rate := float64(n) / max(time.Since(start).Seconds(), 0.001)
	r.progress("coord: %s %s, %s/s", size(n), what, size(int64(rate)))
}

// readStopped writes a backup of a data folder that no server uses.
func (r *run) readStopped(ctx context.Context, dir string, w io.Writer) (client.Snapshot, error) {
	state, err := restore.Snapshot(ctx, restore.OfflineOptions{DataDir: dir, Writer: writer, Codec: snapshot.Zstd})
	if is[*datadir.InUseError](err) {
		err = &hinted{err, "coord snapshot without --data-dir takes a backup from the running server"}
	}
	if err != nil {
		return client.Snapshot{}, err
	}
	for _, notice := range state.Notices {
		r.note("coord: %s", notice)
	}
	start := time.Now()
	defer r.progressEnd()
	sum := &summing{w: w, sum: sha256.New()}
	summary, err := snapshot.Write(sum, state.Meta, state.Frozen, snapshot.Options{Step: func(p snapshot.Progress) error {
		r.progressOf("written", p.FileBytes, start)
		return context.Cause(ctx)
	}})
	if err != nil {
		return client.Snapshot{}, err
	}
	got := client.Snapshot{Zxid: state.Frozen.Counters().Zxid, Bytes: sum.n}
	sum.sum.Sum(got.SHA256[:0])
	if summary.FileBytes != sum.n {
		return got, fmt.Errorf("%d of %d bytes were written", sum.n, summary.FileBytes)
	}
	return got, nil
}

// summing is a writer that counts and hashes what it writes.
type summing struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (s *summing) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.sum.Write(b[:n])
	s.n += int64(n)
	return n, err
}

// abandonable does work that takes no context. If ctx ends first, the result of
// work is discarded.
func abandonable[T any](ctx context.Context, work func() (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		v, err := work()
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
