package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// AnyVersion is the expected version that matches every version.
const AnyVersion = text.AnyVersion

// Value is what a Get reads.
type Value struct {
	Data    []byte // never nil
	Version int32
	Zxid    znode.Zxid // of the last change that the node had applied
	Stat    text.Stat  // if requested
}

// GetOptions select how Get reads.
type GetOptions struct {
	Stat bool
	Lin  bool // linearizable: sees every write that was answered before, by any node
}

// Get reads a znode's value.
func (c *Conn) Get(ctx context.Context, path string, o GetOptions) (Value, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbGet, Path: path}, Stat: o.Stat, Lin: o.Lin})
	if err != nil {
		return Value{}, err
	}
	v := Value{Data: r.Data, Version: int32(r.Int(text.KeyVersion)), Zxid: r.Zxid(text.KeyZxid)}
	if v.Data == nil {
		v.Data = []byte{}
	}
	if o.Stat {
		v.Stat = r.Stat()
	}
	return v, nil
}

// Exists reads a znode's stat. A missing znode is not an error.
func (c *Conn) Exists(ctx context.Context, path string) (s text.Stat, ok bool, err error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbExists, Path: path}})
	switch {
	case err == nil:
		return r.Stat(), true, nil
	case errors.Is(err, znode.ErrNoNode):
		return text.Stat{}, false, nil
	}
	return text.Stat{}, false, err
}

// Item is one znode of a list.
type Item struct {
	Path string
	Stat text.Stat // if requested
	Data []byte    // if requested
	Err  error     // why a requested stat or value is missing: it may not be read; else nil
}

// ListOptions select what Ls and Tree list.
type ListOptions struct {
	Stat  bool
	Data  bool   // Tree
	Depth int    // Tree: levels below the path; 0 is all
	After string // start after it: for Ls a child's name, for Tree a path
	Page  int    // znodes per request; 0 is 1,000
	// Within is the longest wait for one page, unless ctx ends earlier; 0 is no limit. It does not
	// limit the whole list, which may be long and whose reader may be slow.
	Within time.Duration
}

// Ls lists the children of a znode in byte order of their names. It reads page by page, so it may
// or may not see concurrent changes.
func (c *Conn) Ls(ctx context.Context, path string, o ListOptions) iter.Seq2[Item, error] {
	req := text.Request{Op: text.Op{Verb: text.VerbLs, Path: path, Limit: int32(o.Page)}, Stat: o.Stat, After: o.After}
	return c.pages(ctx, &req, o.Within, func(r *text.Reply) Item {
		return Item{Path: znode.Join(path, r.Arg)}
	})
}

// Tree lists a znode and all its descendants, depth first, siblings in byte order. It reads page by
// page, as Ls does.
func (c *Conn) Tree(ctx context.Context, path string, o ListOptions) iter.Seq2[Item, error] {
	req := text.Request{
		Op:   text.Op{Verb: text.VerbTree, Path: path, Limit: int32(o.Page)},
		Stat: o.Stat, Data: o.Data, Depth: int32(o.Depth), After: o.After,
	}
	return c.pages(ctx, &req, o.Within, func(r *text.Reply) Item {
		switch r.Kind {
		case text.KindData:
			return Item{Path: r.Str(text.KeyPath), Data: r.Data}
		case text.KindErr:
			e := refusal(r, "")
			return Item{Path: e.Path, Err: e}
		}
		return Item{Path: r.Arg}
	})
}

// pages repeats a request for the next page until there are no more.
func (c *Conn) pages(ctx context.Context, req *text.Request, within time.Duration, item func(*text.Reply) Item) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for {
			r, err := c.doWithin(ctx, within, req)
			if err != nil {
				yield(Item{}, err)
				return
			}
			for i := range r.Items {
				it := item(&r.Items[i])
				if req.Stat {
					it.Stat = r.Items[i].Stat()
					if _, there := r.Items[i].Field(text.KeyVersion); !there && it.Err == nil {
						it.Err = &Error{Code: znode.ErrNoAuth, Path: it.Path, Op: -1}
					}
				}
				if !yield(it, nil) {
					return
				}
				if i == len(r.Items)-1 {
					req.After = it.Path
					if req.Verb == text.VerbLs {
						_, req.After = znode.Split(it.Path)
					}
				}
			}
			if r.Int(text.KeyMore) == 0 {
				return
			}
			if len(r.Items) == 0 {
				yield(Item{}, &UnreachableError{Server: c.server, Err: errors.New("the server sent an empty page but announced more")})
				return
			}
		}
	}
}

func (c *Conn) doWithin(ctx context.Context, within time.Duration, req *text.Request) (*text.Reply, error) {
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	return c.Do(ctx, req)
}

// Change is the outcome of a write.
type Change struct {
	Path    string // Create: the path that was made, with the digits of a sequential one
	Version int32  // Create, Set: of the data; SetACL: of the ACL
	Zxid    znode.Zxid
}

// ChangeOf reads the outcome of a write to path from its answer.
func ChangeOf(r *text.Reply, path string) Change {
	ch := Change{Path: path, Version: int32(r.Int(text.KeyVersion)), Zxid: r.Zxid(text.KeyZxid)}
	if p := r.Str(text.KeyPath); p != "" {
		ch.Path = p
	}
	return ch
}

// CreateOptions select what kind of znode Create makes.
type CreateOptions struct {
	Mode    znode.Mode    // one that needs no session
	TTL     time.Duration // for a TTL mode
	Parents bool          // create missing parents too
	ACL     znode.ACL     // nil: open to everyone
}

// Create makes a znode.
func (c *Conn) Create(ctx context.Context, path string, data []byte, o CreateOptions) (Change, error) {
	if (o.TTL > 0) != o.Mode.TTL() || o.Mode.Ephemeral() || o.TTL%time.Millisecond != 0 {
		return Change{}, fmt.Errorf("%w: create mode %d does not go with a ttl of %v", znode.ErrBadArguments, o.Mode, o.TTL)
	}
	return c.change(ctx, text.Op{
		Verb: text.VerbCreate, Path: path, Value: data, Mode: o.Mode, TTLMS: o.TTL.Milliseconds(), Parents: o.Parents, ACL: o.ACL,
	})
}

// Set replaces a znode's value if its version is the expected one (or version is AnyVersion).
func (c *Conn) Set(ctx context.Context, path string, data []byte, version int32) (Change, error) {
	return c.change(ctx, text.Op{Verb: text.VerbSet, Path: path, Value: data, Version: version})
}

// Put is Set, but creates the znode if it is missing.
func (c *Conn) Put(ctx context.Context, path string, data []byte, version int32) (Change, error) {
	return c.change(ctx, text.Op{Verb: text.VerbSet, Path: path, Value: data, Version: version, Create: true})
}

// Rm deletes a znode without children, if its version is the expected one (or version is
// AnyVersion).
func (c *Conn) Rm(ctx context.Context, path string, version int32) (Change, error) {
	return c.change(ctx, text.Op{Verb: text.VerbRm, Path: path, Version: version})
}

// RmAll deletes a znode and all its descendants, or none of them. They may be at most limit znodes
// in all; 0 is 100.
func (c *Conn) RmAll(ctx context.Context, path string, version int32, limit int) (Change, error) {
	return c.change(ctx, text.Op{Verb: text.VerbRm, Path: path, Version: version, Recursive: true, Limit: int32(limit)})
}

func (c *Conn) change(ctx context.Context, op text.Op) (Change, error) {
	r, err := c.Do(ctx, &text.Request{Op: op})
	if err != nil {
		return Change{}, err
	}
	return ChangeOf(r, op.Path), nil
}

// Txn executes CHECK, CREATE, SET and RM operations: all of them or none. The error names the
// operation that failed.
func (c *Conn) Txn(ctx context.Context, ops []text.Op) ([]Change, znode.Zxid, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbTxn}, Ops: ops})
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.Path == "" && e.Op >= 0 && e.Op < len(ops) {
			e.Path = ops[e.Op].Path
		}
		return nil, 0, err
	}
	if len(r.Items) != len(ops) {
		return nil, 0, &Error{Code: znode.ErrUncertain, Op: -1, Err: fmt.Errorf("got %d answers to %d operations", len(r.Items), len(ops))}
	}
	changes := make([]Change, len(ops))
	for i := range ops {
		changes[i] = ChangeOf(&r.Items[i], ops[i].Path)
	}
	return changes, r.Zxid(text.KeyZxid), nil
}

// Sync waits until the node has applied every write that was answered before, by any node.
func (c *Conn) Sync(ctx context.Context, path string) (znode.Zxid, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbSync, Path: path}})
	if err != nil {
		return 0, err
	}
	return r.Zxid(text.KeyZxid), nil
}

// GetACL reads a znode's access list and the list's version. Without the permission ADMIN the
// hashes of digest entries are hidden.
func (c *Conn) GetACL(ctx context.Context, path string) (znode.ACL, int32, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbGetACL, Path: path}})
	if err != nil {
		return nil, 0, err
	}
	acl := make(znode.ACL, len(r.Items))
	for i := range r.Items {
		item := r.Items[i].Arg
		nothing := strings.HasSuffix(item, ":") // it grants nothing: ZooKeeper's clients can make such entries
		if nothing {
			item += znode.All.String()
		}
		if acl[i], err = znode.ParseACLEntry(item); err != nil {
			return nil, 0, &UnreachableError{Server: c.server, Err: err}
		}
		if nothing {
			acl[i].Perms = 0
		}
	}
	return acl, int32(r.Int(text.KeyAversion)), nil
}

// SetACL replaces a znode's access list if the list's version is the expected one (or version is
// AnyVersion).
func (c *Conn) SetACL(ctx context.Context, path string, acl znode.ACL, version int32) (Change, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbSetACL, Path: path, ACL: acl, Version: version}})
	if err != nil {
		return Change{}, err
	}
	return Change{Path: path, Version: int32(r.Int(text.KeyAversion)), Zxid: r.Zxid(text.KeyZxid)}, nil
}
