package znode_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"coord/tree/znode"
)

func TestCheckPath(t *testing.T) {
	long := strings.Repeat("n", 4095)
	for _, c := range []struct {
		name, path, why string // why is "" for a good path
	}{
		{"root", "/", ""},
		{"one component", "/a", ""},
		{"deep", "/a/b/c/d/e/f", ""},
		{"space", "/a b/ c", ""},
		{"dots within names", "/.a/a./..a/a../...", ""},
		{"accents", "/caf\u00e9", ""},
		{"chinese", "/\u4e2d\u6587", ""},
		{"first behind the control block", "/\u00a0", ""},
		{"last before the surrogates", "/\ud7ff", ""},
		{"first behind the private use area", "/\uf900", ""},
		{"last before the specials", "/\uffef", ""},
		{"4096 bytes", "/" + long, ""},

		{"empty", "", "is empty"},
		{"relative", "a/b", "does not start with /"},
		{"4097 bytes", "/" + long + "n", "is longer than 4096 bytes"},
		{"4099 bytes of few characters", "/" + strings.Repeat("\u4e2d", 1366), "is longer than 4096 bytes"},
		{"ends with a slash", "/a/", "ends with /"},
		{"two slashes", "//", "ends with /"},
		{"empty first component", "//a", "has an empty component"},
		{"empty component", "/a//b", "has an empty component"},
		{"dot", "/.", "has the component ."},
		{"dot inside", "/a/./b", "has the component ."},
		{"dots", "/a/..", "has the component .."},
		{"dots inside", "/../a", "has the component .."},
		{"NUL", "/a\x00", "has a control character"},
		{"first control", "/\x01", "has a control character"},
		{"newline", "/a\nb", "has a control character"},
		{"last control", "/\x1f", "has a control character"},
		{"DEL", "/\x7f", "has a control character"},
		{"first of C1", "/\u0080", "has a character that is not allowed"},
		{"last of C1", "/\u009f", "has a character that is not allowed"},
		{"first of private use", "/\ue000", "has a character that is not allowed"},
		{"last of private use", "/\uf8ff", "has a character that is not allowed"},
		{"first special", "/\ufff0", "has a character that is not allowed"},
		{"replacement character", "/\ufffd", "has a character that is not allowed"},
		{"last special", "/\uffff", "has a character that is not allowed"},
		{"beyond the basic plane", "/\U00010000", "has a character that is not allowed"},
		{"emoji", "/\U0001F600", "has a character that is not allowed"},
		{"first surrogate", "/\xed\xa0\x80", "is not valid UTF-8"},
		{"last surrogate", "/\xed\xbf\xbf", "is not valid UTF-8"},
		{"stray byte", "/a\xff", "is not valid UTF-8"},
		{"overlong slash", "/a\xc0\xaf", "is not valid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := znode.CheckPath(c.path)
			if c.why == "" {
				if err != nil {
					t.Errorf("%v, want a good path", err)
				}
				return
			}
			var pe *znode.PathError
			if !errors.As(err, &pe) || pe.Why != c.why || pe.Path != c.path {
				t.Errorf("%v, want that it %s", err, c.why)
			}
			if !errors.Is(err, znode.ErrBadArguments) {
				t.Errorf("%v is not a BadArguments", err)
			}
		})
	}
}

func TestPathErrorIsShort(t *testing.T) {
	err := znode.CheckPath("/" + strings.Repeat("x", 5000))
	if text := err.Error(); len(text) > 200 || !strings.Contains(text, "longer than 4096 bytes") {
		t.Errorf("error text %q", text)
	}
}

// goodPath applies the eight rules of the reference, one after the other, to UTF-16 units as Java
// has them, and coord's own two: the number of bytes and valid UTF-8.
func goodPath(path string) bool {
	units := utf16.Encode([]rune(path))
	if len(units) == 0 || units[0] != '/' { // rules 1, 2
		return false
	}
	if len(path) > 4096 || !utf8.ValidString(path) {
		return false
	}
	if path == "/" { // rule 3
		return true
	}
	for part := range strings.SplitSeq(path[1:], "/") { // rules 4, 6, 7
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	for _, u := range units { // rules 5, 8
		if u <= 0x1f || u >= 0x7f && u <= 0x9f || u >= 0xd800 && u <= 0xf8ff || u >= 0xfff0 {
			return false
		}
	}
	return true
}

func FuzzCheckPath(f *testing.F) {
	for _, seed := range []string{"/", "", "a", "/a", "/a/", "//", "/a/../b", "/.", "/a\x00", "/\u00a0", "/\ufffd", "/\U0001F600", "/\xed\xa0\x80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		good := znode.CheckPath(path) == nil
		if good != goodPath(path) {
			t.Fatalf("CheckPath(%q): %v", path, znode.CheckPath(path))
		}
		if !good || path == "/" {
			return
		}
		parent, name := znode.Split(path)
		if znode.CheckPath(parent) != nil || znode.Join(parent, name) != path {
			t.Fatalf("Split(%q) = %q, %q", path, parent, name)
		}
		if !znode.Below(path, parent) || znode.Below(parent, path) || !znode.Below(path, path) {
			t.Fatalf("Below(%q, %q)", path, parent)
		}
	})
}

func TestCheckCreatePath(t *testing.T) {
	for _, c := range []struct {
		name string
		path string
		mode znode.Mode
		good bool
	}{
		{"plain", "/a", znode.Persistent, true},
		{"plain with a slash at the end", "/a/", znode.Persistent, false},
		{"digits only", "/a/", znode.PersistentSequential, true},
		{"digits only at the root", "/", znode.EphemeralSequential, true},
		{"dots become a name", "/a/..", znode.PersistentSequentialTTL, true},
		{"empty component", "/a//", znode.PersistentSequential, false},
		{"relative", "", znode.PersistentSequential, false},
		{"room for the digits", "/" + strings.Repeat("n", 4085), znode.PersistentSequential, true},
		{"no room for the digits", "/" + strings.Repeat("n", 4086), znode.PersistentSequential, false},
		{"no digits to come", "/" + strings.Repeat("n", 4095), znode.Ephemeral, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := znode.CheckCreatePath(c.path, c.mode); (err == nil) != c.good {
				t.Errorf("%v, want good %v", err, c.good)
			}
		})
	}
}

func TestReserved(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/zookeeper": true, "/zookeeper/quota": true, "/zookeeper/config": true,
		"": false, "/a": false, "/zookeeper/": false, "/zookeeper/quota/a": false, "/zookeeper2": false,
	} {
		if got := znode.Reserved(path); got != want {
			t.Errorf("Reserved(%q) = %v", path, got)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct{ path, parent, name string }{
		{"/", "", ""}, {"/a", "/", "a"}, {"/a/b", "/a", "b"}, {"/a/b/c", "/a/b", "c"}, {"a", "", ""}, {"", "", ""},
	} {
		if parent, name := znode.Split(c.path); parent != c.parent || name != c.name {
			t.Errorf("Split(%q) = %q, %q", c.path, parent, name)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		path, top string
		want      bool
	}{
		{"/", "/", true}, {"/a", "/", true}, {"/a", "/a", true}, {"/a/b", "/a", true},
		{"/ab", "/a", false}, {"/a", "/a/b", false}, {"/", "/a", false}, {"/b/a", "/a", false},
	} {
		if got := znode.Below(c.path, c.top); got != c.want {
			t.Errorf("Below(%q, %q) = %v", c.path, c.top, got)
		}
	}
}
