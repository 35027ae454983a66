package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms states what each room of coord may import of the others. An arrow that
// is not here fails the test: change the table on purpose only. Imports point
// down, neighbours meet through interfaces (see ARCHITECTURE.md).
var rooms = map[string]string{
	"":                  "cmd",
	"cmd":               "client cmd/bench cmd/cert server server/text snapshot snapshot/datadir snapshot/restore snapshot/zkimport tree tree/znode",
	"cmd/bench":         "server/zkproto tree/znode",
	"cmd/cert":          "",
	"server":            "gossip server/admission server/founding server/frontend server/peer server/replica server/session server/watch snapshot snapshot/datadir snapshot/restore tree tree/znode wal",
	"server/accept":     "",
	"server/frontend":   "server/accept server/text server/watch server/zkproto tree tree/znode",
	"server/admission":  "server/peer server/replica server/watch tree tree/znode",
	"server/replica":    "server/watch tree tree/znode wal",
	"server/session":    "server/watch tree tree/znode",
	"server/peer":       "server/accept",
	"client":            "server/text tree/znode",
	"snapshot/restore":  "snapshot snapshot/datadir snapshot/zkimport tree tree/znode wal",
	"snapshot/zkimport": "tree tree/znode",
	"snapshot/datadir":  "snapshot",
	"snapshot":          "tree tree/znode",
	"gossip":            "",
	"server/founding":   "",
	"server/text":       "tree/znode",
	"server/watch":      "tree/znode",
	"server/zkproto":    "tree/znode",
	"tree":              "tree/znode",
	"tree/znode":        "",
	"wal":               "",
}

// pure rooms do no I/O and know no time: bytes in, values out.
var pure = map[string]string{
	"tree":            "os net time sync log context io",
	"server/founding": "os net time sync log context io",
	"tree/znode":      "os net time sync log context io",
	"server/text":     "os net time sync log context io",
	"server/zkproto":  "os net time sync log context io",
	// The watch table has its own leaf lock, and nothing else.
	"server/watch": "os net time log context io",
}

// owners are the libraries that only some rooms may touch.
var owners = map[string]string{
	"github.com/vmihailenco/msgpack/v5": "snapshot",
	"github.com/tidwall/wal":            "wal",
	"go.etcd.io/raft/v3":                "server server/peer server/replica wal", // server hands messages from one to the other
	"github.com/urfave/cli/v2":          "cmd",
	"github.com/rs/zerolog":             "cmd gossip server server/accept server/frontend server/peer server/replica server/session",
	"github.com/hashicorp/memberlist":   "gossip",
	"github.com/klauspost/compress":     "snapshot snapshot/zkimport",
	"github.com/zeebo/xxh3":             "tree",
	"go.yaml.in/yaml/v3":                "cmd",
}

func TestLayers(t *testing.T) {
	found := map[string]bool{}
	eachFile(t, parser.ImportsOnly, func(path, room string, f *ast.File) {
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("%s: the room %q is not in the table", path, room)
			return
		}
		found[room] = true
		for _, imp := range f.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			if own, ok := strings.CutPrefix(name, "coord/"); ok && !slices.Contains(strings.Fields(allowed), own) {
				t.Errorf("%s imports %s: not an arrow of the table", path, name)
			}
			for bad := range strings.FieldsSeq(pure[room]) {
				if name == bad || strings.HasPrefix(name, bad+"/") && name != "net/netip" {
					t.Errorf("%s imports %s: %s is a pure room", path, name, room)
				}
			}
			for lib, who := range owners {
				if (name == lib || strings.HasPrefix(name, lib+"/")) && !slices.Contains(strings.Fields(who), room) {
					t.Errorf("%s imports %s: that belongs to %s", path, name, who)
				}
			}
		}
	})
	for room := range rooms {
		if !found[room] {
			t.Errorf("the table has the room %q, and it is empty", room)
		}
	}
}

// H14 (ZOOKEEPER-4203): a panic in any goroutine ends the process, for nobody catches one.
// The replica turns what raft gave up with into Run's error, and lets other panics pass.
func TestNobodyCatchesAPanic(t *testing.T) {
	eachFile(t, parser.SkipObjectResolution, func(path, room string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && room != "server/replica" {
				if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "recover" {
					t.Errorf("%s calls recover", path)
				}
			}
			return true
		})
	})
}

// eachFile parses the program's files, and says in which room each is.
func eachFile(t *testing.T, mode parser.Mode, look func(path, room string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" || d.Name() == "testscripts" || d.Name() == "examples") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		room := filepath.ToSlash(filepath.Dir(path))
		if room == "." {
			room = ""
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, mode)
		if err != nil {
			return err
		}
		look(path, room, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
