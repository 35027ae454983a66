package datadir

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coord/snapshot"
)

// State says how far a folder has come.
type State string

// The states.
const (
	Blank    State = "blank"    // nothing acknowledged, nothing promised
	Promised State = "promised" // to the plan of a founding; nothing acknowledged
	Member   State = "member"   // a node's: it must have its log and a snapshot
	Removed  State = "removed"  // the node is no longer a member of its ensemble, and never will be again
	Faulty   State = "faulty"   // acknowledged data is lost or damaged: never a node's again
)

// Identity says which node the folder belongs to, and what it is bound to.
type Identity struct {
	State      State
	Node       uint64      // random, made with the folder; 0 if the folder is Faulty and the identity could not be read
	Cluster    snapshot.ID // random, made with the cluster; new after each restore
	Lineage    snapshot.ID // of the data: the cluster in which it began
	Generation uint32      // number of restores since
	CreatedMS  int64
	Boot       uint64 // number of starts, this one included; raised before any other node is told of it

	Promise  *Promise      // of a Promised folder, else nil
	Voted    bool          // the promise is given up, because its proposer seems dead: it can no longer make this node a member
	Released []snapshot.ID // plans that must never be promised, including the proposer's own aborted ones
	Replaces []uint64      // the nodes that this one replaces, the last one first
	Reason   string        // of a Removed or Faulty folder
	Aside    string        // of a Faulty folder: the folder in it to which the data is moved
}

// Promise is a plan of a founding to which a node is bound. The node becomes a member by it or is
// released from it, and until then promises nothing else.
type Promise struct {
	Cluster  snapshot.ID // of the future ensemble; also the plan's name
	Proposer uint64      // the only node that decides
	Members  []Founder   // all members, including the proposer and this node
}

// Founder is a member of an ensemble that is being founded.
type Founder struct {
	Node       uint64
	Name, Addr string // a label, and the address at which peers reach it
}

// Limits of an identity.
const (
	MaxFounders = 32
	// MaxReleased is many times what a founding needs; a node that is released more often is the
	// victim of a fault that persists.
	MaxReleased = 256
	// MaxReplaces is how many lost disks in a row a node remembers, if it got no vote in between.
	MaxReplaces = 16
)

// Equal says whether two identities are the same in every field.
func (id Identity) Equal(other Identity) bool { return bytes.Equal(id.encode(), other.encode()) }

// NewIdentity is a new node of a new cluster, in state Blank.
func NewIdentity(now time.Time) Identity {
	id := Identity{State: Blank, Cluster: snapshot.NewID(), CreatedMS: now.UnixMilli()}
	id.Lineage = id.Cluster
	for id.Node == 0 || id.Node >= 1<<64-2 { // raft reserves two ids
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		for _, x := range b {
			id.Node = id.Node<<8 | uint64(x)
		}
	}
	return id
}

// Identity reads the folder's identity; ok is false if the folder has none yet. A folder with a log
// or snapshots but without an identity is damaged.
func (d *Dir) Identity() (id Identity, ok bool, err error) {
	return ReadIdentity(d.path)
}

// ReadIdentity is Dir.Identity for a folder that is not locked: the result may be out of date by
// the time it is used.
func ReadIdentity(path string) (id Identity, ok bool, err error) {
	file := filepath.Join(path, IdentityName)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{WALName, SnapshotName} {
			if entries, err := os.ReadDir(filepath.Join(path, name)); err == nil && len(entries) > 0 {
				return id, false, &DamageError{file, "is missing, but there are files in " + filepath.Join(path, name)}
			}
		}
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	id, err = parseIdentity(b)
	if err != nil {
		if errors.Is(err, ErrNewer) {
			return Identity{}, false, fmt.Errorf("%s: %w", file, err)
		}
		return Identity{}, false, &DamageError{file, err.Error()}
	}
	return id, true, nil
}

// Format 1 ends with created. It is read, and written as format 2 at the next change.
const (
	identityHead = "coord identity 2\n"
	firstHead    = "coord identity 1\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (id Identity) encode() []byte {
	b := fmt.Appendf(nil, "%sstate %s\nnode %016x\ncluster %s\nlineage %s\ngeneration %d\ncreated %d\nboot %d\n",
		identityHead, id.State, id.Node, id.Cluster, id.Lineage, id.Generation, id.CreatedMS, id.Boot)
	if p := id.Promise; p != nil {
		b = fmt.Appendf(b, "promise %s\nproposer %016x\n", p.Cluster, p.Proposer)
		for _, m := range p.Members {
			b = fmt.Appendf(b, "founder %016x %q %q\n", m.Node, m.Name, m.Addr)
		}
	}
	if id.Voted {
		b = append(b, "voted true\n"...)
	}
	for _, plan := range id.Released {
		b = fmt.Appendf(b, "released %s\n", plan)
	}
	for _, node := range id.Replaces {
		b = fmt.Appendf(b, "replaces %016x\n", node)
	}
	if id.Reason != "" {
		b = fmt.Appendf(b, "reason %q\n", id.Reason)
	}
	if id.Aside != "" {
		b = fmt.Appendf(b, "aside %q\n", id.Aside)
	}
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

func parseIdentity(b []byte) (id Identity, err error) {
	first := bytes.HasPrefix(b, []byte(firstHead))
	if !first && !bytes.HasPrefix(b, []byte(identityHead)) {
		if bytes.HasPrefix(b, []byte("coord identity ")) {
			return id, ErrNewer
		}
		return id, errors.New("is not an identity file")
	}
	i := bytes.LastIndex(b, []byte("crc32c "))
	if i < 0 || string(b[i:]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:i], castagnoli)) {
		return id, errors.New("the checksum is wrong")
	}
	for line := range strings.Lines(string(b[len(identityHead):i])) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if err := id.set(key, value); err != nil {
			return id, fmt.Errorf("%s: %w", key, err)
		}
	}
	if err := id.check(); err != nil {
		return id, err
	}
	// Otherwise something would be dropped when the identity is written again.
	if !first && !bytes.Equal(id.encode(), b) {
		return id, errors.New("a field is missing or unknown")
	}
	return id, nil
}

// set parses one line.
func (id *Identity) set(key, value string) (err error) {
	switch key {
	case "state":
		id.State = State(value)
	case "node":
		id.Node, err = strconv.ParseUint(value, 16, 64)
	case "cluster":
		id.Cluster, err = snapshot.ParseID(value)
	case "lineage":
		id.Lineage, err = snapshot.ParseID(value)
	case "generation":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 32)
		id.Generation = uint32(n)
	case "created":
		id.CreatedMS, err = strconv.ParseInt(value, 10, 64)
	case "boot":
		id.Boot, err = strconv.ParseUint(value, 10, 64)
	case "promise":
		id.Promise = &Promise{}
		id.Promise.Cluster, err = snapshot.ParseID(value)
	case "proposer", "founder":
		if id.Promise == nil {
			return errors.New("belongs to no promise")
		}
		if key == "proposer" {
			id.Promise.Proposer, err = strconv.ParseUint(value, 16, 64)
			break
		}
		var m Founder
		_, err = fmt.Sscanf(value, "%x %q %q", &m.Node, &m.Name, &m.Addr)
		id.Promise.Members = append(id.Promise.Members, m)
	case "voted":
		id.Voted, err = strconv.ParseBool(value)
	case "released":
		var plan snapshot.ID
		plan, err = snapshot.ParseID(value)
		id.Released = append(id.Released, plan)
	case "replaces":
		var node uint64
		node, err = strconv.ParseUint(value, 16, 64)
		id.Replaces = append(id.Replaces, node)
	case "reason":
		id.Reason, err = strconv.Unquote(value)
	case "aside":
		id.Aside, err = strconv.Unquote(value)
	}
	return err
}

// check says why an identity must not be written or accepted.
func (id *Identity) check() error {
	switch id.State {
	case Blank, Member, Removed, Faulty:
		if id.Promise != nil || id.Voted {
			return errors.New("there is a promise, but the state is " + string(id.State))
		}
	case Promised:
		p := id.Promise
		if p == nil || len(p.Members) == 0 || len(p.Members) > MaxFounders {
			return errors.New("the promise is incomplete")
		}
		has := map[uint64]bool{}
		for _, m := range p.Members {
			has[m.Node] = true
		}
		if !has[id.Node] || !has[p.Proposer] || len(has) != len(p.Members) {
			return errors.New("the promise does not match this node")
		}
	default:
		return errors.New("the state is missing or unknown")
	}
	switch {
	case id.Node == 0 && id.State != Faulty:
		return errors.New("the node id is missing")
	case len(id.Released) > MaxReleased:
		return errors.New("too many plans that the node was released from")
	case len(id.Replaces) > MaxReplaces:
		return errors.New("too many nodes that it replaces")
	case id.Aside != "" && (id.State != Faulty || !isAside(id.Aside)):
		return errors.New("the folder for damaged data is invalid")
	}
	return nil
}

// WriteIdentity makes the folder id's, durably.
func (d *Dir) WriteIdentity(id Identity) error { return WriteIdentity(d.path, id) }

// RaiseBoot counts a start, durably, so that the new boot may be told to other nodes.
func (d *Dir) RaiseBoot(id Identity) (Identity, error) {
	id.Boot++
	return id, d.WriteIdentity(id)
}

// WriteIdentity writes the identity of a folder that only the caller uses: aside, fsynced, renamed,
// the folder fsynced. An identity that could not be read again is a fault of the caller and panics.
func WriteIdentity(path string, id Identity) error {
	if err := id.check(); err != nil {
		panic("datadir: write an identity: " + err.Error())
	}
	file := filepath.Join(path, IdentityName)
	aside := file + ".new"
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(id.encode())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(aside, file)
	}
	if err == nil {
		err = snapshot.SyncDir(path)
	}
	if err != nil {
		_ = os.Remove(aside)
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

// NodeString prints a node id: 16 hexadecimal digits.
func NodeString(node uint64) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(node >> (56 - 8*i))
	}
	return hex.EncodeToString(b[:])
}
