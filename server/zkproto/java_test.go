package zkproto_test

import (
	"testing"

	"coord/server/zkproto"
)

// TestJava checks strings as the server of ZooKeeper 3.8.0 echoed them.
func TestJava(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"/a/\u00fc\u4e2d":                   "/a/\u00fc\u4e2d",
		"/\U0001f600/":                      "/\xed\xa0\xbd\xed\xb8\x80/",
		"\xff\xfe":                          "\ufffd\ufffd",
		"\xc0\x80":                          "\ufffd\ufffd",
		"/\xed\xa0\x80":                     "/\ufffd",
		"\xe2\x82":                          "\ufffd",
		"\xf0\x9f\x98/":                     "\ufffd/",
		"\xe2(\xa1":                         "\ufffd(\ufffd",
		"\xe0\x80\x80":                      "\ufffd\ufffd\ufffd",
		"\xf0\x80\x80\x80":                  "\ufffd\ufffd\ufffd\ufffd",
		"\xf4\x90\x80\x80":                  "\ufffd\ufffd\ufffd\ufffd",
		"\xf5\x80":                          "\ufffd\ufffd",
		"\xff\U0001f600\xed\xb8\x80 \ufffd": "\ufffd\xed\xa0\xbd\xed\xb8\x80\ufffd \ufffd",
	} {
		if got := zkproto.ToJava(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := zkproto.FromJava("\xffa\U0001f600"); got != "\ufffda\U0001f600" {
		t.Errorf("%q", got)
	}
	for _, same := range []string{"", "/a/b", "\u00fc", "\ufffd"} {
		if n := testing.AllocsPerRun(10, func() { zkproto.ToJava(same) }); n != 0 {
			t.Errorf("%q: %v allocations", same, n)
		}
	}
}
