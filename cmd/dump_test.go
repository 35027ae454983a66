package cmd

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coord/server"
	"coord/server/text"
	"coord/tree/znode"
)

// dump writes entries, which are in the order of a tree, like export.
func dump(f dumpFormat, all []entry) ([]byte, error) {
	var b bytes.Buffer
	w := f.write(&b)
	for i, e := range all {
		if err := w.add(e, i+1 < len(all) && znode.Below(all[i+1].path, e.path)); err != nil {
			return nil, err
		}
	}
	err := w.end()
	return b.Bytes(), err
}

// sameEntries compares what was written with what was read, in any order.
func sameEntries(want, got []entry) error {
	values := map[string][]byte{}
	for _, e := range got {
		if _, twice := values[e.path]; twice {
			return fmt.Errorf("%q is read twice", e.path)
		}
		values[e.path] = e.data
	}
	for _, e := range want {
		if v, ok := values[e.path]; !ok || !bytes.Equal(v, e.data) {
			return fmt.Errorf("%q was %q, is read as %q (%v)", e.path, e.data, v, ok)
		}
		delete(values, e.path)
	}
	if len(values) > 0 {
		return fmt.Errorf("read and never written: %q", values)
	}
	return nil
}

// drawTree makes a random tree with names and values that are difficult to represent.
func drawTree(t *rapid.T) []entry {
	name := rapid.OneOf(
		rapid.SampledFrom([]string{".value", "..value", "value", "-", "a", "a b", "A_b", "_", "__", "x_", "1", "~", "null", "true", "? x", "#", "a: b", `"`, `\`, "'", "=", "é", "日本", "!x", "&a", "*a", "...", "---"}),
		rapid.StringMatching(`[a-z]{1,3}`), rapid.StringMatching(`[ -~]{1,8}`), rapid.StringMatching(`x{90,140}`),
	)
	value := rapid.OneOf(
		rapid.SampledFrom([]string{"", "12", "~", "null", "yes", "0x10", "1e3", "2026-01-01", "a\n", "\n", "\n\n", " lead", "trail ", "\ttab", "a\r\nb", "\ufeffbom", "\u0085", "\u2028", "a\n  b\n c", "# no", "- x", "a: b", "...", "---\n...", "'", `"`, `\n`, "$HOME", "`id`", "a'b\"c", "\x00", "\xff", "é\n日", "!!str", "<<", "%", "@x", "|", "> "}),
		rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
		rapid.StringMatching(`[ \n\ta-c:#'"]{0,20}`),
	)
	tree := map[string]string{"/": value.Draw(t, "top")}
	paths := []string{"/"}
	for range rapid.IntRange(0, 12).Draw(t, "znodes") {
		last := strings.ReplaceAll(name.Draw(t, "name"), "/", "")
		path := znode.Join(rapid.SampledFrom(paths).Draw(t, "parent"), last)
		if strings.Count(path, "/") > strings.Count(paths[0], "/")+6 || znode.CheckPath(path) != nil || znode.Below(path, znode.SystemPath) {
			continue
		}
		if _, there := tree[path]; !there {
			paths = append(paths, path)
		}
		tree[path] = value.Draw(t, "value")
	}
	return inOrder(tree)
}

func inOrder(tree map[string]string) (all []entry) {
	for path, v := range tree {
		all = append(all, entry{path: path, data: []byte(v)})
	}
	slices.SortFunc(all, func(a, b entry) int {
		return slices.Compare(strings.Split(strings.TrimSuffix(a.path, "/"), "/"), strings.Split(strings.TrimSuffix(b.path, "/"), "/"))
	})
	return all
}

// TestDumpRoundTrip: reading returns what was written, and a truncation at any byte
// is noticed.
func TestDumpRoundTrip(t *testing.T) {
	for _, f := range dumpFormats() {
		t.Run(f.name, func(t *testing.T) {
			written := 0
			rapid.Check(t, func(t *rapid.T) {
				all := drawTree(t)
				b, err := dump(f, all)
				if is[*envError](err) && f.name == "env" {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				written++
				got, whole, err := f.read(b)
				if err != nil || !whole {
					t.Fatalf("whole %v, %v\n%s", whole, err, b)
				}
				want := all
				if f.name == "env" { // znodes with children and without a value are implied
					want = slices.DeleteFunc(slices.Clone(all), func(e entry) bool {
						return len(e.data) == 0 && (e.path == "/" || slices.ContainsFunc(all, func(o entry) bool { return o.path != e.path && znode.Below(o.path, e.path) }))
					})
				}
				if err := sameEntries(want, got); err != nil {
					t.Fatalf("%v\n%s", err, b)
				}
				cut := rapid.IntRange(0, len(b)-2).Draw(t, "cut")
				if _, whole, err := f.read(b[:cut]); whole && err == nil {
					t.Fatalf("cut at %d of %d bytes it is taken for whole\n%s", cut, len(b), b[:cut])
				}
			})
			if f.name != "env" && written < 5 { // TestEnvTrees has trees that env can represent
				t.Errorf("only %d trees were written", written)
			}
		})
	}
}

// TestEnvTrees is the round trip of trees that env can represent.
func TestEnvTrees(t *testing.T) {
	f := dumpFormats()[3]
	rapid.Check(t, func(t *rapid.T) {
		tree := map[string]string{"/": ""}
		name := rapid.StringMatching(`[A-Za-z][A-Za-z0-9]{0,3}(_[A-Za-z0-9]{1,3})?`)
		for range rapid.IntRange(1, 8).Draw(t, "znodes") {
			parts := rapid.SliceOfN(name, 1, 3).Draw(t, "parts")
			for i := range parts {
				if p := "/" + strings.Join(parts[:i+1], "/"); tree[p] == "" {
					tree[p] = strings.ReplaceAll(rapid.String().Draw(t, "value"), "\x00", "")
				}
			}
		}
		all := inOrder(tree)
		b, err := dump(f, all)
		if err != nil {
			t.Fatal(err)
		}
		got, whole, err := f.read(b)
		if err != nil || !whole {
			t.Fatalf("whole %v, %v\n%s", whole, err, b)
		}
		for _, e := range got {
			if v, ok := tree[e.path]; !ok || v != string(e.data) {
				t.Fatalf("%q was %q, is read as %q\n%s", e.path, v, e.data, b)
			}
			delete(tree, e.path)
		}
		for path, v := range tree {
			if v != "" {
				t.Fatalf("%q is lost\n%s", path, b)
			}
		}
	})
	for _, tt := range []struct {
		e      entry
		parent bool
		why    string
	}{
		{entry{path: "/", data: []byte("x")}, true, "PATH itself"},
		{entry{path: "/a-b"}, false, "its path is not a variable name"},
		{entry{path: "/1"}, false, "its path is not a variable name"},
		{entry{path: "/a__b"}, false, "its path is not a variable name"},
		{entry{path: "/a_/b"}, false, "its path is not a variable name"},
		{entry{path: "/é"}, false, "its path is not a variable name"},
		{entry{path: "/a", data: []byte("x\x00")}, false, "NUL"},
	} {
		err := f.write(&bytes.Buffer{}).add(tt.e, tt.parent)
		if !is[*envError](err) || !strings.Contains(err.Error(), tt.why) || exitCode(err) != exitUsage {
			t.Errorf("%q: %v", tt.e.path, err)
		}
	}
}

// TestReadDumps: files that people write by hand, and files that are refused.
func TestReadDumps(t *testing.T) {
	for _, tt := range []struct{ format, in, want, err string }{
		{"json", "{\"path\":\"/a\",\"data\":\"x\"}\n\n{\"v\":1,\"path\":\"/b\"}", "/a=x /b=", ""},
		{"json", `{"path":"/a","data64":"eA=="}`, "/a=x", ""},
		{"json", "{\"path\":\"/a\"}\n{\"path\":\"/b\",\"dat\":\"x\"}", "", `line 2: json: unknown field "dat"`},
		{"json", `{"path":"/a","data":"x","data64":"eA=="}`, "", "line 1: data and data64 exclude each other"},
		{"json", `{"path":"/a","data64":"?"}`, "", "line 1: data64: illegal base64"},
		{"json", `{"path":"/a"} {"path":"/b"}`, "", "line 1: expected one object per line"},
		{"json", "\n[1]", "", "line 2: json: cannot unmarshal array"},
		{"json", `{"v":2,"path":"/a","news":1}`, "", "line 1: version 2 of the format"},
		{"json", "{\"end\":true}\n{\"path\":\"/a\"}", "", "line 2: line after the end mark"},
		{"yaml", "/a: x\n/b:\n/c: 012\n/d: true\n/e: &x |\n  two\n  lines\n/f: *x\n/g: !!binary |\n  eA\n  ==\n", "/a=x /b= /c=012 /d=true /e=two\nlines\n /f=two\nlines\n /g=x", ""},
		{"yaml", "# nothing\n", "", ""},
		{"yaml", "/a:\n  b: x\n", "", "line 1: the value of \"/a\" is not text"},
		{"yaml", "- /a\n", "", "line 1: expected a mapping from paths to values"},
		{"yaml", "/a: x\n---\n/b: y\n", "", "expected one YAML document"},
		{"yaml", "/a: !!binary '?'\n", "", "line 1: !!binary: illegal base64"},
		{"yaml", "/a: [\n", "", "yaml: line"},
		{"env", "# c\nA=1 # why\n export B__C=\"a \\\"b\\\" \\\\ \\n\"\r\nD='it'\\''s'\"!\" \nE=\nF=a\\ b\\\nc", "/A=1 /B/C=a \"b\" \\ \\n /D=it's! /E= /F=a bc", ""},
		{"env", "A=1\nB=$A\n", "", "line 2: a shell would interpret $"},
		{"env", "A=\"`id`\"\n", "", "line 1: a shell would interpret `"},
		{"env", "A=~/x\n", "", "line 1: a shell would interpret ~"},
		{"env", "A=http://x?a&b\n", "", "line 1: a shell would interpret &"},
		{"env", "A=a b\n", "", "line 1: unexpected text after the value of A"},
		{"env", "\nA-B=x\n", "", "line 2: expected NAME=VALUE"},
		{"env", "A='x\ny\n", "", "a quote is not closed"},
		{"env", "A=x\\", "", "line 1: the file ends with a backslash"},
		{"tar", "nonsense", "", "the archive cannot be read"},
	} {
		i := slices.Index(dumpFormatNames(), tt.format)
		all, _, err := dumpFormats()[i].read([]byte(tt.in))
		var got []string
		for _, e := range all {
			got = append(got, e.path+"="+string(e.data))
		}
		if strings.Join(got, " ") != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s %q: %q, %v", tt.format, tt.in, got, err)
		}
		if want := exitUsage; err != nil && exitCode(err) != want && !strings.Contains(tt.err, "version 2") {
			t.Errorf("%s %q: exit code %d", tt.format, tt.in, exitCode(err))
		}
	}
	for name, want := range map[string]string{
		"./a/b/": "/a/b false", "a/.value": "/a true", "./.value": "/ true", "..value": "/.value false", "./": "/ false", "a/...value/x": "/a/..value/x false",
		"/etc/passwd": "error", "../x": "error", "a/../../x": "error", ".value/x": "error", "a/b/..": "/a false",
	} {
		p, value, err := pathOfTar(name)
		got := fmt.Sprintf("%s %v", p, value)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s in an archive is %s, want %s", name, got, want)
		}
	}
}

// TestTarIsCutBehindZeros: zeros in a value are not taken for the end of the archive.
func TestTarIsCutBehindZeros(t *testing.T) {
	f := dumpFormats()[slices.Index(dumpFormatNames(), "tar")]
	for _, n := range []int{1024, 2000, 4096} {
		b, err := dump(f, []entry{{path: "/"}, {path: "/a", data: make([]byte, n)}, {path: "/b"}})
		if err != nil {
			t.Fatal(err)
		}
		for cut := range len(b) {
			if _, whole, err := f.read(b[:cut]); whole && err == nil {
				t.Errorf("a value of %d zeros: cut at %d of %d bytes it is taken for whole", n, cut, len(b))
			}
		}
		if _, whole, err := f.read(b); !whole || err != nil {
			t.Errorf("whole: %v, %v", whole, err)
		}
	}
}

// TestDumpOfLongPaths: the longest paths, of one component and of many, are written and read again.
func TestDumpOfLongPaths(t *testing.T) {
	t.Parallel()
	all := []entry{
		{path: "/"}, {path: strings.Repeat("/d", znode.MaxPathBytes/2), data: []byte("deep")},
		{path: "/" + strings.Repeat("\u00e9", znode.MaxPathBytes/2-1), data: []byte("é")},
		{path: "/" + strings.Repeat("x", znode.MaxPathBytes-1), data: []byte("long")},
	}
	for _, format := range dumpFormatNames()[:3] {
		f := dumpFormats()[slices.Index(dumpFormatNames(), format)]
		b, err := dump(f, all)
		if err != nil {
			t.Fatal(err)
		}
		got, whole, err := f.read(b)
		if err != nil || !whole || len(got) != len(all) {
			t.Fatalf("%s: %d znodes, whole: %v, %v", format, len(got), whole, err)
		}
		for _, e := range all {
			if !slices.ContainsFunc(got, func(g entry) bool { return g.path == e.path && string(g.data) == string(e.data) }) {
				t.Errorf("%s: the path of %d bytes is missing", format, len(e.path))
			}
		}
	}
}

// FuzzReadDump: no file makes the program panic, and what was read can be written
// and read again unchanged.
func FuzzReadDump(f *testing.F) {
	all := []entry{{path: "/", data: []byte("x")}, {path: "/a b", data: []byte("\xff")}, {path: "/c"}}
	for i, format := range dumpFormats() {
		if b, err := dump(format, all); err == nil {
			f.Add(i, b)
		}
	}
	f.Add(3, []byte("A='x'\nB__C=y # z\n# end\n"))
	f.Fuzz(func(t *testing.T, i int, in []byte) {
		format := dumpFormats()[uint(i)%4]
		targets, err := readDump(format, "file", in, "/", false)
		if err != nil {
			return
		}
		tree := map[string]string{"/": ""}
		for _, e := range targets {
			tree[e.path] = string(e.data)
		}
		b, err := dump(format, inOrder(tree))
		if is[*envError](err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := readDump(format, "file", b, "/", true)
		if err != nil {
			t.Fatalf("%q is written as %q: %v", in, b, err)
		}
		for _, e := range again {
			if tree[e.path] != string(e.data) {
				t.Fatalf("%q: %q was %q, is read as %q", b, e.path, tree[e.path], e.data)
			}
		}
	})
}

// TestExportImport: a copy of a copy is the same file, in every format, with a real
// server.
func TestExportImport(t *testing.T) {
	serve(t, nil)
	dir := t.TempDir()
	t.Chdir(dir)
	rapid.Check(t, func(t2 *rapid.T) {
		tree := drawTree(t2)
		var first []byte
		for _, f := range dumpFormats()[:3] {
			b, err := dump(f, tree)
			if err != nil {
				t2.Fatal(err)
			}
			file := "a" + f.suffixes[0]
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t2.Fatal(err)
			}
			for _, args := range []string{"import --replace -y /deep/copy " + file, "import --replace -y -q /deep/copy " + file} {
				if got := coord(t, "", strings.Fields(args)...); got.code != exitOK {
					t2.Fatalf("coord %s: %+v", args, got)
				}
			}
			got := coord(t, "", "export", "/deep/copy", "--format", f.name)
			if got.code != exitOK || got.out != string(b) {
				t2.Fatalf("%+v\nwant\n%s", got, b)
			}
			js := coord(t, "", "export", "/deep/copy")
			if first != nil && js.out != string(first) {
				t2.Fatalf("by %s it is\n%s, else\n%s", f.name, js.out, first)
			}
			first = []byte(js.out)
		}
	})
	must(t, "create -p /env/db/host x", "create /env/user it's")
	must(t, "export /env .env", "import /copy .env", "export /copy copy.env")
	a, _ := os.ReadFile(".env")
	b, _ := os.ReadFile("copy.env")
	if string(a) != "db__host=x\nuser='it'\\''s'\n# end\n" || !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestExport(t *testing.T) {
	serve(t, nil)
	t.Chdir(t.TempDir())
	must(t, "create /a x", "create /a/b y", "create /hidden z --acl world:anyone:w")
	for _, tt := range []struct {
		args string
		code int
		out  string
		err  string
	}{
		{"export /a", 0, "{\"v\":1,\"path\":\"/\",\"data\":\"x\"}\n{\"v\":1,\"path\":\"/b\",\"data\":\"y\"}\n{\"v\":1,\"end\":true}\n", "2 znodes with 2 B exported"},
		{"export /a - --json --format env", 2, "", `"message":"the format env cannot represent`},
		{"export /a/b - --json", 0, "{\"v\":1,\"path\":\"/\",\"data\":\"y\"}\n{\"v\":1,\"end\":true}\n", `"znodes":1,"bytes":1,"ephemerals":0,"plain":0}`},
		{"export /a a.yml --json", 0, `{"v":1,"path":"/a","file":"a.yml","format":"yaml","znodes":2,"bytes":2,"ephemerals":0,"plain":0}` + "\n", ""},
		{"export /a a.yml", 13, "", "--force overwrites it"},
		{"export /a a.yml --force", 0, "", "2 znodes"},
		{"export /a a.doc", 2, "", "give the --format: one of json, yaml, tar, env"},
		{"export /a a.doc --format xml", 2, "", "expected one of json, yaml, tar, env"},
		{"export / all.json", 6, "", "/hidden: not permitted"},
		{"export /none none.json", 3, "", "no such znode"},
		{"export /zookeeper", 0, "{\"v\":1,\"path\":\"/\",\"data\":\"\"}\n{\"v\":1,\"path\":\"/config\",\"data\":\"\"}\n{\"v\":1,\"path\":\"/quota\",\"data\":\"\"}\n{\"v\":1,\"end\":true}\n", "3 znodes"},
		{"rm /hidden", 0, "", ""},
		{"export / --format yaml", 0, "/: \"\"\n/a: x\n/a/b: y\n...\n", "3 znodes"},
	} {
		got := coord(t, "", strings.Fields(tt.args)...)
		if got.code != tt.code || got.out != tt.out || (tt.err == "") != (got.errOut == "") || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("coord %s: %+v, want %d %q %q", tt.args, got, tt.code, tt.out, tt.err)
		}
	}
	if files, _ := filepath.Glob("*"); !slices.Equal(files, []string{"a.yml"}) {
		t.Errorf("left are %v", files)
	}
	if code, out := onTerminal(t, "export", "/a", "--format", "tar").wait(); code != exitUsage || !strings.Contains(out, "cannot be written to a terminal") {
		t.Errorf("%d %s", code, out)
	}
}

func TestImport(t *testing.T) {
	serve(t, nil)
	const two = "{\"path\":\"/\",\"data\":\"top\"}\n{\"path\":\"/x/y\",\"data\":\"deep\"}\n"
	const end = "{\"v\":1,\"end\":true}\n"
	report := func(n ...int) string {
		return fmt.Sprintf("created    %d\nupdated    %d\nunchanged  %d\ndeleted    %d\n", n[0], n[1], n[2], n[3])
	}
	for _, tt := range []struct {
		args, in string
		code     int
		out      string
		err      string
	}{
		{"import /new/app --dry-run", two, 0, "create /new\ncreate /new/app\ncreate /new/app/x\ncreate /new/app/x/y\n", "4 to create"},
		{"exists /new", "", 1, "", ""},
		{"import /new/app", two, 0, report(4, 0, 0, 0), ""},
		{"import /new/app", two, 0, report(0, 0, 2, 0), ""},
		{"set /new/app/x/y other", "", 0, "", ""},
		{"set /new/app/x stays", "", 0, "", ""},
		{"create /new/app/z stays", "", 0, "/new/app/z\n", ""},
		{"create /new/app/z/below stays", "", 0, "/new/app/z/below\n", ""},
		{"import /new/app --dry-run --json", two, 0, `{"v":1,"change":"update","path":"/new/app/x/y"}` + "\n", ""},
		{"import /new/app", two, 0, report(0, 1, 1, 0), ""},
		{"get /new/app/x", "", 0, "stays", ""},
		{"import /new/app --replace", two + end, 2, "", "-y confirms it"},
		{"import /new/app --replace --dry-run", two, 12, "", "has no end mark"},
		{"import /new/app --replace --dry-run", two + end, 0, "delete /new/app/z/below\ndelete /new/app/z\n", "2 to delete"},
		{"import /new/app --replace -y", two + end, 0, report(0, 0, 2, 2), ""},
		{"ls -R /new", "", 0, "/new/app\n/new/app/x\n/new/app/x/y\n", ""},
		{"import / --replace --dry-run", end, 0, "delete /new/app/x/y\ndelete /new/app/x\ndelete /new/app\ndelete /new\n", "4 to delete"},
		{"import /new/app", "", 2, "", "stdin has no znodes"},
		{"import /new/app", "{}", 2, "", "stdin, line 1: path \"\" is empty\nhint: a path in the file"},
		{"import /new/app --json", "\n{\"path\":\"x\"}", 2, "", `"message":"stdin, line 2: path \"x\" does not start with /"`},
		{"import /new/app", "{\"path\":\"/a\"}\n{\"path\":\"/a\"}\n", 2, "", "stdin, line 2: duplicate path \"/a\""},
		{"import / --format yaml", "/zookeeper/quota: x\n", 2, "", "/zookeeper/quota belongs to the server"},
		{"import /new/app --format env", "A=$B\n", 2, "", "stdin, line 1: a shell would interpret $"},
		{"import /bom", "\ufeff" + two + end, 0, report(3, 0, 0, 0), ""},
		{"import /bom --format yaml", "\ufeff/x: s\n", 0, report(0, 1, 0, 0), ""},
		{"import /bom --format env", "\ufeffx=e\n", 0, report(0, 1, 0, 0), ""},
		{"get /bom/x", "", 0, "e", ""},
		{"import /new none.json", "", 3, "", "none.json"},
		{"import /new x.doc", "", 2, "", "does not show its format"},
	} {
		got := coord(t, tt.in, strings.Fields(tt.args)...)
		if got.code != tt.code || got.out != tt.out || (tt.err == "") != (got.errOut == "") || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("coord %s: %+v, want %d %q %q", tt.args, got, tt.code, tt.out, tt.err)
		}
	}
}

// TestImportAsks: without a yes nothing is changed, not even by creates.
func TestImportAsks(t *testing.T) {
	serve(t, nil)
	file := filepath.Join(t.TempDir(), "f.json")
	if err := os.WriteFile(file, []byte("{\"path\":\"/new\"}\n{\"v\":1,\"end\":true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "create /a x", "create /a/old x")
	for _, tt := range []struct {
		answer string
		code   int
		left   string
	}{{"n\n", exitFalse, "/a/old\n"}, {"y\n", exitOK, "/a/new\n"}} {
		x := onTerminal(t, "import", "--replace", "/a", file)
		eventually(t, "the question", func() bool {
			return strings.Contains(x.text(), "Delete 1 znode below /a (not in "+file+")? [y/N] ")
		})
		_, _ = x.master.WriteString(tt.answer)
		if code, text := x.wait(); code != tt.code {
			t.Errorf("%q: %d %s", tt.answer, code, text)
		}
		if got := coord(t, "", "ls", "-R", "/a"); got.out != tt.left {
			t.Errorf("%q: %+v", tt.answer, got)
		}
	}
	x := onTerminal(t, "import", "--replace", "/a", file) // nothing to delete, so no question
	if code, text := x.wait(); code != exitOK || strings.Contains(text, "[y/N]") {
		t.Errorf("%d %s", code, text)
	}
}

// TestImportInTransactions: many changes, and large ones, with a server that
// accepts only small requests.
func TestImportInTransactions(t *testing.T) {
	serve(t, func(cfg *server.Config) { cfg.MaxFrame = 64 << 10 })
	var b strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&b, "{\"path\":\"/%04d\",\"data\":\"%s\"}\n", i, strings.Repeat("x", cmp.Or(i%7, 1)*30))
	}
	for i := range 30 {
		fmt.Fprintf(&b, "{\"path\":\"/big%02d\",\"data\":\"%s\"}\n", i, strings.Repeat("x", 60<<10))
	}
	got := coord(t, b.String(), "import", "/m", "--json")
	if got.code != exitOK || !strings.HasPrefix(got.out, `{"v":1,"path":"/m","created":2531,"updated":0,"unchanged":0,"deleted":0,"transactions":`) || !strings.Contains(got.errOut, "in several") {
		t.Errorf("%+v", got)
	}
	if got := coord(t, b.String(), "import", "/m"); got.code != exitOK || !strings.Contains(got.out, "unchanged  2,530\n") {
		t.Errorf("%+v", got)
	}
	tooBig := "{\"path\":\"/huge\",\"data\":\"" + strings.Repeat("x", 100<<10) + "\"}\n"
	if got := coord(t, tooBig, "import", "/m"); got.code != exitLimit {
		t.Errorf("%+v", got)
	}
}

// TestImportMeets: changes by other clients meanwhile, and ephemeral znodes.
func TestImportMeets(t *testing.T) {
	var txns int
	failAt, failWith := -1, znode.ErrBadVersion
	var removed []string
	fake(t, func(r *text.Request) []byte {
		switch r.Verb {
		case text.VerbGet:
			return reply(text.Reply{Kind: text.KindData, Data: []byte("old"), Fields: []text.Field{text.Int("v", 4)}})
		case text.VerbTree:
			l := text.Reply{Kind: text.KindList}
			for _, p := range []string{"/m", "/m/a", "/m/a/live", "/m/b", "/m/b/c"} {
				s := text.Stat{Stat: znode.Stat{Version: 9}}
				if strings.HasSuffix(p, "live") {
					s.EphemeralOwner = 7
				}
				l.Items = append(l.Items, text.Reply{Kind: text.KindItem, Arg: p, Fields: text.AppendStat(nil, &s)})
			}
			return reply(l)
		}
		txns++
		if len(r.Ops) > 1000 {
			t.Errorf("%d operations in one", len(r.Ops))
		}
		for _, op := range r.Ops {
			switch {
			case op.Verb == text.VerbRm && op.Version == 9:
				removed = append(removed, op.Path)
			case op.Verb != text.VerbSet || op.Version != 4:
				t.Errorf("%v %s v=%d", op.Verb, op.Path, op.Version)
			}
		}
		if txns == failAt {
			return reply(text.Reply{Kind: text.KindErr, Code: failWith, Fields: []text.Field{text.Int("op", 2)}})
		}
		return done(r)
	})
	if got := coord(t, "", "export", "/m"); !strings.Contains(got.out, `"/b/c"`) || strings.Contains(got.out, "live") || !strings.Contains(got.errOut, "not exported because ephemeral: 1 znode") {
		t.Errorf("%+v", got)
	}
	got := coord(t, `{"v":1,"end":true}`, "import", "/m", "--replace", "-y")
	if got.code != exitOK || !slices.Equal(removed, []string{"/m/b/c", "/m/b"}) {
		t.Errorf("%v %+v", removed, got)
	}
	var b strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&b, "{\"path\":\"/%04d\",\"data\":\"new\"}\n", i)
	}
	for _, tt := range []struct {
		failAt  int
		with    znode.Code
		code    int
		message string
	}{
		{1, znode.ErrBadVersion, exitConflict, "coord: /m/0002: the version does not match\nhint: another client has changed it meanwhile"},
		{2, znode.ErrBadVersion, exitPart, "coord: 1,000 of 2,500 changes were made; then /m/1002: the version does not match\nhint: another client"},
		{2, znode.ErrUncertain, exitUncertain, "1,000 of 2,500 changes were made"},
		{3, znode.ErrNoSpace, exitPart, "2,000 of 2,500 changes were made; then /m/2002: "},
	} {
		txns, failAt, failWith = 0, tt.failAt, tt.with
		got := coord(t, b.String(), "import", "/m")
		if got.code != tt.code || !strings.Contains(got.errOut, tt.message) || got.out != "" {
			t.Errorf("%v: %+v", tt, got)
		}
	}
}
