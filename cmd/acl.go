package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

const aclDetails = `One entry a line, as SCHEME:ID:PERMS; of the permissions there are c(reate) d(elete) r(ead) w(rite) a(dmin).
Without the permission ADMIN the hashes of digest entries show as x.`

func aclCommand() *command {
	return &command{
		name: "acl", args: "PATH", does: "the short form of coord acl get", min: 1, max: 1, connects: true,
		details: aclDetails, examples: []string{"coord acl /app"}, run: runACLGet,
	}
}

func aclGetCommand() *command {
	return &command{
		name: "acl get", args: "PATH", does: "show the ACL of a znode", min: 1, max: 1, connects: true,
		details: aclDetails, examples: []string{"coord acl get /app", "coord acl get --json /app | jq .aversion"}, run: runACLGet,
	}
}

func aclSetCommand() *command {
	return &command{
		name: "acl set", args: "PATH ACL…", does: "replace the ACL of a znode", min: 2, max: -1, connects: true,
		details: `ACL is SCHEME:ID:PERMS; several are separate arguments or separated by commas, and together replace the whole ACL.
auth::PERMS stands for the authenticated user who sets it. The command needs the ADMIN permission; leave it to somebody.
With -r all znodes below get the same ACL, one by one, PATH first; -v then applies to PATH alone.`,
		examples: []string{
			"coord acl set /app world:anyone:r auth::cdrwa", "coord acl set -v 0 /app ip:10.0.0.0/8:cdrwa",
			"coord acl set -r /app world:anyone:r,digest:ann:HASH=:cdrwa",
		},
		flags: []cli.Flag{
			versionFlag("only if the version of the ACL is `N`"),
			boolFlag("recursive", "all znodes below too", "r"),
		},
		asks: func(r *run) bool { return r.flags.Bool("recursive") }, // then the requests depend on the znodes below
		run:  runACLSet,
	}
}

// jsonACL is the answer of acl get.
type jsonACL struct {
	V        int      `json:"v"`
	Path     string   `json:"path"`
	ACL      []string `json:"acl"`
	Aversion int32    `json:"aversion"`
}

// jsonACLChange is the answer of acl set.
type jsonACLChange struct {
	V        int    `json:"v"`
	Path     string `json:"path"`
	Aversion int32  `json:"aversion"`
	Changed  *int   `json:"changed,omitempty"` // with -r: number of znodes
	Zxid     string `json:"zxid"`              // of the last change
}

func runACLGet(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		acl, aversion, err := c.GetACL(ctx, path)
		if err != nil {
			return err
		}
		out := jsonACL{schema, path, []string{}, aversion}
		for _, e := range acl {
			out.ACL = append(out.ACL, e.String())
			if !r.json {
				r.printf("%s\n", e)
			}
		}
		if r.json {
			r.object(out)
		}
		return nil
	})
}

// parseACLs parses the words of an ACL. where is their source, for error messages.
func parseACLs(where string, words []string) (acl znode.ACL, err error) {
	for _, w := range words {
		entries, err := znode.ParseACL(w)
		if err != nil {
			return nil, &usageError{msg: where + ": " + err.Error(), hint: "for example world:anyone:r or auth::cdrwa"}
		}
		acl = append(acl, entries...)
	}
	for _, e := range acl {
		if e.Scheme == znode.SchemeDigest && strings.HasSuffix(e.ID, ":x") {
			return nil, &usageError{msg: where + ": " + e.String() + ": x stands for a hidden hash and is not a hash itself", hint: "read the ACL with the ADMIN permission"}
		}
	}
	return acl, nil
}

func runACLSet(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	acl, err := parseACLs("ACL", r.args[1:])
	if err != nil {
		return err
	}
	if r.flags.Bool("recursive") {
		return r.setACLs(ctx, path, acl)
	}
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		change, err := c.SetACL(ctx, path, acl, r.version())
		if err == nil {
			r.changedACL(change, nil)
		}
		return err
	})
}

func (r *run) changedACL(change client.Change, changed *int) {
	if r.json {
		r.object(jsonACLChange{schema, change.Path, change.Version, changed, change.Zxid.String()})
	}
}

// setACLs sets the ACL of a znode and of all its descendants. It reads all paths
// before it changes anything, since a changed znode may hide its children.
func (r *run) setACLs(ctx context.Context, path string, acl znode.ACL) error {
	var paths []string
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer r.leave(c)
	if err := r.walkOn(ctx, c, path, client.ListOptions{}, func(it client.Item) error {
		paths = append(paths, it.Path)
		return nil
	}); err != nil {
		return err
	}
	first, cancel := r.limit(ctx)
	defer cancel()
	top, err := c.SetACL(first, path, acl, r.version())
	if err != nil {
		return err
	}
	changed := 1
	requests := func(i int) *text.Request {
		return &text.Request{Op: text.Op{Verb: text.VerbSetACL, Path: paths[i+1], ACL: acl, Version: anyVersion}}
	}
	err = r.pipeline(ctx, c, len(paths)-1, writeWindow, requests, func(_ int, reply *text.Reply, err error) error {
		switch {
		case err == nil:
			changed++
			top.Zxid = reply.Zxid(text.KeyZxid)
		case !errors.Is(err, znode.ErrNoNode): // a znode that is gone by now is skipped
			return err
		}
		r.progress("coord: %s of %s changed", count(int64(changed)), count(int64(len(paths))))
		return nil
	})
	if err != nil {
		return &partError{fmt.Sprintf("the ACLs of %s of %s znodes were changed", count(int64(changed)), count(int64(len(paths)))), err}
	}
	r.changedACL(top, &changed)
	return nil
}
