package cmd

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coord/server"
)

func TestParseProperties(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"a=b", "1 a=b"},
		{"a = b \n", "1 a=b"},
		{"a: b\r\nc\td\re e", "1 a=b;2 c=d;3 e=e"},
		{"a\nb=\n", "1 a=;2 b="},
		{"a = = b", "1 a== b"},
		{"  # x\n\t! y\n\n\fa=1", "4 a=1"},
		{"a=1\\\n   2\\\r\n\t# 3\nb=4", "1 a=12# 3;4 b=4"},
		{`a=b\\` + "\nc=d", `1 a=b\;2 c=d`},
		{`a\ b\=c\:d = e\ f`, "1 a b=c:d=e f"},
		{`a=\t\u00e9\u20AC\ud83d\ude00\q\é`, "1 a=\té€😀qé"},
		{`C\:\\x=y\`, `1 C:\x=y`},
		{"\ufeffa=b", "1 a=b"},
		{"a=b\\", "1 a=b"},
		{"a=\\", "1 a="},
		{"\\\na=b", "2 a=b"},
		{"clé=wert", "1 clé=wert"},
		{"a==b", "1 a==b"},
	} {
		all, err := parseProperties(tt.text)
		var got []string
		for _, p := range all {
			got = append(got, fmt.Sprintf("%d %s=%s", p.line, p.key, p.value))
		}
		if err != nil || strings.Join(got, ";") != tt.want {
			t.Errorf("%q: got %q %v, want %q", tt.text, got, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"a=1\n=b": "line 2: a key is missing", "a=\\u12": "line 1: \\u needs four", "a=\\u12g4": "line 1: \\u needs four",
		"a=\\ud83d": "incomplete surrogate", "a=\\ud83dx": "incomplete surrogate", "a=\\ud83d\\n": "incomplete surrogate", "a=\\ud83d\\u0041": "incomplete surrogate",
		"a=\x01": "line 1: control characters are not allowed", "a=\xff": "not UTF-8",
	} {
		if _, err := parseProperties(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseProperties: no input makes the parser panic, and every line number that
// it reports is one of the text's.
func FuzzParseProperties(f *testing.F) {
	for _, s := range []string{"", "a=b", "a\\\n b", "\\", "#\\\na", "a=\\ud83d\\ude00", "=\n", "\r\n\r", "a\\", "server.1=h:1:2\nclientPort: 2181"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := 1 + strings.Count(text, "\n") + strings.Count(text, "\r")
		all, err := parseProperties(text)
		for _, p := range all {
			if p.line < 1 || p.line > lines || p.key == "" {
				t.Errorf("%+v in %d lines", p, lines)
			}
		}
		o := serverOptions{Config: server.DefaultConfig()}
		if _, applyErr := applyConfig(&o, text); err != nil && applyErr == nil {
			t.Error("a file that cannot be read was applied")
		}
	})
}

func config(t *testing.T, text string) (serverOptions, []string, error) {
	t.Helper()
	o := defaultOptions()
	warnings, err := applyConfig(&o, text)
	return o, warnings, err
}

func TestApplyConfig(t *testing.T) {
	for _, tt := range []struct {
		text string
		got  func(o serverOptions) any
		want any
	}{
		{"data-dir=/x", func(o serverOptions) any { return o.DataDir }, "/x"},
		{"dataDir=/x y", func(o serverOptions) any { return o.DataDir }, "/x y"},
		{"listen=a:1, unix:/s", func(o serverOptions) any { return o.Listen }, []string{"a:1", "unix:/s"}},
		{"clientPort=2182", func(o serverOptions) any { return o.Listen }, []string{":2182"}},
		{"clientPort=2182\nclientPortAddress=10.0.0.1", func(o serverOptions) any { return o.Listen }, []string{"10.0.0.1:2182"}},
		{"clientPortAddress=::1\nclientPort=2182", func(o serverOptions) any { return o.Listen }, []string{"[::1]:2182"}},
		{"clientPort=2182\nclientPortAddress=0.0.0.0", func(o serverOptions) any { return o.Listen }, []string{":2182"}},
		{"clientPortAddress=10.0.0.1", func(o serverOptions) any { return o.Listen }, []string{server.DefaultListen}},
		{"maxClientCnxns=0", func(o serverOptions) any { return o.MaxClientConns }, 0},
		{"autopurge.snapRetainCount=5", func(o serverOptions) any { return o.SnapshotKeep }, 5},
		{"snapCount=7", func(o serverOptions) any { return o.SnapshotTxns }, 7},
		{"zookeeper.snapCount=7", func(o serverOptions) any { return o.SnapshotTxns }, 7},
		{"snapSizeLimitInKb=2", func(o serverOptions) any { return o.SnapshotBytes }, int64(2048)},
		{"snapSizeLimitInKb=-1", func(o serverOptions) any { return o.SnapshotBytes }, int64(math.MaxInt64)},
		{"snapshot-every=9, 2MiB", func(o serverOptions) any { return fmt.Sprint(o.SnapshotTxns, o.SnapshotBytes) }, "9 2097152"},
		{"snapshot-every=2M", func(o serverOptions) any { return fmt.Sprint(o.SnapshotTxns, o.SnapshotBytes) }, "100000 2097152"},
		{"4lw.commands.whitelist=stat, ruok", func(o serverOptions) any { return o.FourLetter }, []string{"stat", "ruok", "srvr"}},
		{"4lw.commands.whitelist=srvr, mntr", func(o serverOptions) any { return o.FourLetter }, []string{"srvr", "mntr"}},
		{"zookeeper.4lw.commands.whitelist=*", func(o serverOptions) any { return o.FourLetter }, []string{"*"}},
		{"4lw-whitelist=stat, ruok", func(o serverOptions) any { return o.FourLetter }, []string{"stat", "ruok"}},
		{"4lw-whitelist=*", func(o serverOptions) any { return o.FourLetter }, []string{"*"}},
		{"enforceQuota=FALSE", func(o serverOptions) any { return o.Settings.EnforceQuota }, false},
		{"zookeeper.extendedTypesEnabled=false", func(o serverOptions) any { return o.Settings.ExtendedTypes }, false},
		{"skipACL=yes", func(o serverOptions) any { return o.Settings.SkipACL }, true},
		{"znode.container.checkIntervalMs=500", func(o serverOptions) any { return o.ContainerInterval }, 500 * time.Millisecond},
		{"zookeeper.DigestAuthenticationProvider.superDigest=s:x=", func(o serverOptions) any { return o.SuperDigest }, "s:x="},
		{"jute.maxbuffer=0x100000", func(o serverOptions) any { return o.MaxFrame }, 1 << 20},
		{"jute.maxbuffer=4096", func(o serverOptions) any { return fmt.Sprint(o.MaxFrame, o.ZooKeeperFrame) }, "4096 4096"},
		{"tickTime=50\nminSessionTimeout=-1\nzookeeper.maxSessionTimeout=900", func(o serverOptions) any { return fmt.Sprint(o.TickTime, o.MinSession, o.MaxSession) }, "50ms 0s 900ms"},
		{"reconfigEnabled=true", func(o serverOptions) any { return o.ReconfigEnabled }, true},
		{"log-level=debug", func(o serverOptions) any { return o.logLevel }, "debug"},
		{"log-format=json", func(o serverOptions) any { return o.logFormat }, "json"},
		{"standaloneEnabled=true\npeerType=participant\nname=n", func(o serverOptions) any { return o.Name }, "n"},
	} {
		o, warnings, err := config(t, tt.text)
		if err != nil || len(warnings) > 0 || fmt.Sprint(tt.got(o)) != fmt.Sprint(tt.want) {
			t.Errorf("%q: got %v %v %v, want %v", tt.text, tt.got(o), warnings, err, tt.want)
		}
	}
}

func TestApplyConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a=1":                                 `line 1: unknown key "a"`,
		"\n\ntickTyme=1":                      `line 3: unknown key "tickTyme"`,
		"listen=x":                            "line 1: listen: ",
		"listen=":                             "line 1: listen: the value is empty",
		"dataDir=":                            "line 1: dataDir: the value is empty",
		"clientPort=x":                        "line 1: clientPort",
		"clientPort=0":                        "not a port",
		"clientPort=70000":                    "not a port",
		"clientPort=1\nclientPortAddress=a b": "not an address",
		"clientPort=1\nlisten=a:1":            "both set the address to listen on",
		"data-dir=a\ndataDir=b":               "line 2: dataDir: already set by data-dir",
		"maxClientCnxns=many":                 "line 1: maxClientCnxns: ",
		"snapCount=-1":                        "line 1: snapCount: ",
		"snapSizeLimitInKb=x":                 "line 1: snapSizeLimitInKb: ",
		"enforceQuota=maybe":                  "true or false",
		"jute.maxbuffer=99999999":             "at most 3145728",
		"jute.maxbuffer=big":                  "not a number",
		"znode.container.checkIntervalMs=0":   "expected 1 or more",
		"tickTime=0":                          "expected 1 or more",
		"minSessionTimeout=-2":                "minSessionTimeout",
		"server.1=a:2888":                     "line 1: server.1: expected host:PEER:GOSSIP[:participant|:observer]",
		"server.1=a:2888:3888:voter":          `line 1: server.1: "voter": expected participant or observer`,
		"server.1=a:2888:3888:observer:x":     "host:PEER:GOSSIP",
		"server.1=a:2888:0":                   `"0" is not a port from 1 to 65535`,
		"server.1=a:x:3888":                   `"x" is not a port`,
		"server.1=:2888:3888":                 "host:PEER:GOSSIP",
		"server.1=[::1:2888:3888":             "host:PEER:GOSSIP",
		"server.1=a:2888:3888|b:2888:3888":    "several addresses of one server are not supported",
		"server.1=a:2888:3888;x":              `clientPort "x" is not a port`,
		"server.1=a:1:2\nserver.01=b:1:2":     "line 2: server.01: there is a server 1 already",
		"server.1=a:1:2;3\nlisten=b:4":        "line 2: listen and line 1: server.1 both set the address to listen on",
		"group.1=1:2":                         "line 1: group.1: each voter has one vote",
		"weight.1=1":                          "each voter has one vote",
		"dynamicConfigFile=x":                 "the members are stored in the log",
		"standaloneEnabled=2":                 "expected true or false",
		"peerType=leader":                     "expected participant or observer",
		"peerType=observer\nobserver=true":    "line 2: observer: already set by peerType",
		"syncLimit=5\nsync-limit=5s":          "line 2: sync-limit: already set by syncLimit",
		"syncLimit=x":                         "not a number",
		"expect=x":                            "line 1: expect: ",
		"initial=a":                           `line 1: initial: "a" is not NAME=HOST:PEER-PORT`,
		"initial=a=b":                         "is not NAME=HOST:PEER-PORT",
		"initial=a=b:1:2:3":                   "is not NAME=HOST:PEER-PORT",
		"initial=a=b:0":                       "is not NAME=HOST:PEER-PORT",
		"observer=perhaps":                    "expected true or false",
		"peer-listen=2888":                    `line 1: peer-listen: "2888" is not ADDR:PORT`,
		"raft-tick=50":                        `"50" is not a time such as 500ms or 10s`,
		"secret=x":                            "unknown key",
		"secureClientPort=2281":               "TLS is not supported yet",
		"sessionRequireClientSASLAuth=true":   "SASL is not supported yet",
		"enforce.auth.enabled=true":           "not supported yet",
		"server.x=1":                          "unknown key",
		"log-level=loud":                      "debug, info, warn or error",
		"log-format=xml":                      "auto, json or console",
		"max-frame=1 MB":                      "not a size",
		"max-frame=9GiB":                      "at most",
		"snapshot-every=0":                    "neither",
		"config=x":                            "unknown key",
	} {
		if _, _, err := config(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestConfigWarnings(t *testing.T) {
	zoo := "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/tmp/zookeeper\nclientPort=2181\n" +
		"autopurge.purgeInterval=1\nmetricsProvider.httpPort=7000\nzookeeper.admin.enableServer=false\nmaxClientCnxns=10\nmaxClientCnxns=20\n"
	o, warnings, err := config(t, zoo)
	if err != nil || o.MaxClientConns != 20 {
		t.Fatal(o.MaxClientConns, err)
	}
	want := []string{
		"overridden by a later line: maxClientCnxns (line 10)",
		"ignored, no effect here: initLimit (line 3), autopurge.purgeInterval (line 7), " +
			"metricsProvider.httpPort (line 8), zookeeper.admin.enableServer (line 9)",
	}
	if strings.Join(warnings, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(warnings, "\n"))
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, []byte("#"+strings.Repeat("x", maxConfigBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		big: "larger than 1 MiB", filepath.Join(dir, "none"): "no such file", dir: "is a directory",
	} {
		o := serverOptions{Config: server.DefaultConfig()}
		if _, err := readConfig(&o, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
