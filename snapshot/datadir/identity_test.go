package datadir_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"coord/snapshot"
	"coord/snapshot/datadir"
)

// states are identities of all kinds.
func states() map[string]datadir.Identity {
	promised, voted, removed, faulty, blank := sample(), sample(), sample(), sample(), datadir.NewIdentity(time.UnixMilli(5))
	promise := &datadir.Promise{Cluster: snapshot.NewID(), Proposer: 7, Members: []datadir.Founder{
		{Node: 7, Name: "the first", Addr: "10.0.0.1:2888"}, {Node: promised.Node, Name: "ü\n\"", Addr: "[fe80::1%eth0]:2888"}, {Node: 9},
	}}
	promised.State, promised.Promise, promised.Released = datadir.Promised, promise, []snapshot.ID{snapshot.NewID(), snapshot.NewID()}
	voted.State, voted.Promise, voted.Voted, voted.Node = datadir.Promised, promise, true, promised.Node
	removed.State, removed.Reason = datadir.Removed, "replaced by 00000000000000ab"
	faulty.State, faulty.Reason, faulty.Aside = datadir.Faulty, "wal/1: record 7\nis damaged", "damaged-20261121T170000Z"
	blank.Boot, blank.Released, blank.Replaces = 1<<63, []snapshot.ID{snapshot.NewID()}, []uint64{77, 76}
	return map[string]datadir.Identity{"promised": promised, "voted": voted, "removed": removed, "faulty": faulty, "blank": blank,
		"faulty, of nobody known": {State: datadir.Faulty, Reason: "x"}}
}

func TestIdentityStates(t *testing.T) {
	t.Parallel()
	for name, want := range states() {
		dir := t.TempDir()
		must(t, datadir.WriteIdentity(dir, want))
		if got, ok, err := datadir.ReadIdentity(dir); !reflect.DeepEqual(got, want) || !ok || err != nil {
			t.Errorf("%s: read %+v %v %v, want %+v", name, got, ok, err, want)
		}
	}
}

// sealed is an identity file with a correct checksum.
func sealed(text string) []byte {
	return fmt.Appendf(nil, "%scrc32c %08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// TestIdentityOfTheFirstFormat: a folder in the old format is accepted, and has none of the new fields.
func TestIdentityOfTheFirstFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id := strings.Repeat("ab", 16)
	old := "coord identity 1\nstate member\nnode 00000000000000ab\ncluster " + id + "\nlineage " + id + "\ngeneration 3\ncreated 17\n"
	must(t, os.WriteFile(filepath.Join(dir, datadir.IdentityName), sealed(old), 0o600))
	got, ok, err := datadir.ReadIdentity(dir)
	cluster, _ := snapshot.ParseID(id)
	if want := (datadir.Identity{State: datadir.Member, Node: 0xab, Cluster: cluster, Lineage: cluster, Generation: 3, CreatedMS: 17}); !ok || err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v %v %v", got, ok, err)
	}
	d := open(t, dir)
	for n := range uint64(3) {
		if got, err = d.RaiseBoot(got); err != nil || got.Boot != n+1 {
			t.Errorf("boot %d, %v", got.Boot, err)
		}
		if again, _, err := d.Identity(); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v, want %+v: %v", again, got, err)
		}
	}
}

// TestIdentityRefused: an identity that is complete but makes no sense is not accepted, and neither
// is one of which the next write would lose something.
func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, datadir.IdentityName)
	text := map[string]string{}
	for name, id := range states() {
		must(t, datadir.WriteIdentity(dir, id))
		b, err := os.ReadFile(file)
		must(t, err)
		text[name] = string(b[:strings.Index(string(b), "crc32c ")])
	}
	line := func(s, key string) string {
		for l := range strings.Lines(s) {
			if strings.HasPrefix(l, key+" ") {
				return l
			}
		}
		t.Fatalf("no %s in %s", key, s)
		return ""
	}
	p := text["promised"]
	for name, bad := range map[string]string{
		"a field of later":       p + "newer 1\n",
		"no state":               strings.Replace(p, "state promised\n", "", 1),
		"another state":          strings.Replace(p, "state promised", "state lost", 1),
		"no node":                strings.Replace(text["blank"], line(text["blank"], "node"), "", 1),
		"no promise":             strings.Replace(p, line(p, "promise"), "", 1),
		"a blank one's promise":  strings.Replace(p, "state promised", "state blank", 1),
		"another's promise":      strings.Replace(p, line(p, "node"), "node 00000000000000ff\n", 1),
		"no proposer":            strings.Replace(p, line(p, "proposer"), "", 1),
		"no founders":            strings.ReplaceAll(strings.ReplaceAll(p, line(p, "founder"), ""), "founder 0000000000000009 \"\" \"\"\n", ""),
		"a founder twice":        strings.Replace(p, line(p, "founder"), line(p, "founder")+line(p, "founder"), 1),
		"a founder cut":          strings.Replace(p, line(p, "founder"), "founder 0000000000000007 \"x\n", 1),
		"aside, elsewhere":       strings.Replace(text["faulty"], line(text["faulty"], "aside"), "aside \"damaged-1/../..\"\n", 1),
		"aside, not faulty":      strings.Replace(text["faulty"], "state faulty", "state member", 1),
		"released too often":     text["blank"] + strings.Repeat(line(text["blank"], "released"), datadir.MaxReleased),
		"too many predecessors":  text["blank"] + strings.Repeat(line(text["blank"], "replaces"), datadir.MaxReplaces),
		"a number out of bounds": strings.Replace(p, line(p, "generation"), "generation 4294967296\n", 1),
	} {
		must(t, os.WriteFile(file, sealed(bad), 0o600))
		if id, ok, err := datadir.ReadIdentity(dir); ok || err == nil {
			t.Errorf("%s: taken: %+v", name, id)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an identity that cannot be read again was written")
		}
	}()
	_ = datadir.WriteIdentity(dir, datadir.Identity{State: datadir.Promised, Node: 1})
}

func FuzzIdentity(f *testing.F) {
	for _, id := range states() {
		b := string(id.Encode())
		f.Add(b[:strings.Index(b, "crc32c ")])
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := datadir.ParseIdentity(sealed(text))
		if err != nil {
			return
		}
		if again, err := datadir.ParseIdentity(id.Encode()); err != nil || !reflect.DeepEqual(again, id) {
			t.Errorf("%+v became %+v %v", id, again, err)
		}
	})
}
