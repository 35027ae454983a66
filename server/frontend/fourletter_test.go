package frontend_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"coord/server/frontend"
	"coord/testscripts/words"
)

const allWords = "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk wchc wchp wchs"

// answers are the answers of a server that has done nothing yet.
var answers = map[string]string{
	"ruok": "imok", "isro": "rw", "gtmk": "0", "stmk": "0", "crst": "Connection stats reset.\n", "srst": "Server stats reset.\n",
	"srvr": "Zookeeper version: 3.9.3-coord-0.1, built on 02/01/2026 03:04 GMT\nLatency min/avg/max: 0/0.0/0\n" +
		"Received: 1\nSent: 0\nConnections: 1\nOutstanding: 0\nZxid: 0x0\nMode: standalone\nNode count: 4\n",
	"stat": "Zookeeper version: 3.9.3-coord-0.1, built on 02/01/2026 03:04 GMT\nClients:\n" +
		" /127.0.0.1:50000[0](queued=0,recved=1,sent=0)\n\nLatency min/avg/max: 0/0.0/0\n" +
		"Received: 1\nSent: 0\nConnections: 1\nOutstanding: 0\nZxid: 0x0\nMode: standalone\nNode count: 4\n",
	"cons": " /127.0.0.1:50000[0](queued=0,recved=1,sent=0)\n\n",
	"conf": "clientPort=2181\ndataDir=/data\n", "dirs": "datadir_size: 457\nlogdir_size: 67109337\n",
	"envi": "Environment:\nzookeeper.version=3.9.3-coord-0.1, built on 02/01/2026 03:04 GMT\nhost.name=h\nos.memory.free=3MB\n",
}

// TestFourLetterWords compares ZooKeeper's answers byte for byte, with and without a line end after
// the word, for the words of its whitelist.
func TestFourLetterWords(t *testing.T) {
	t.Parallel()
	for _, listed := range [][]string{nil, {"ruok", "srvr", "mntr", "isro"}, {"*"}} {
		for word := range strings.FieldsSeq(allWords) {
			for _, end := range []string{"", "\n", "\r\n", " and more\nCREATE /evil x\n"} {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, direct, func(cfg *frontend.Config, _ *backend) { cfg.FourLetter = listed })
					c := w.pipes().open(home)
					c.say(word + end)
					<-c.done
					got, want := c.got.String(), word+" is not executed because it is not in the whitelist.\n"
					if listed != nil && (listed[0] == "*" || slices.Contains(listed, word)) {
						if err := words.Check(word, words.Coord, got); err != nil && word != "conf" && word != "envi" && word != "mntr" {
							t.Error(err) // these three depend on the node; a test of the whole binary covers them
						}
						fixed, ok := answers[word]
						if !ok {
							return
						}
						want = fixed
					}
					if got != want {
						t.Errorf("%s of %v: got %q, want %q", word, listed, got, want)
					}
				})
			}
		}
	}
}

// TestWordsAreToldFromVerbs: lower-case verbs work, and a word is answered as soon as it is
// complete, even before its client has closed its side.
func TestWordsAreToldFromVerbs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"get /\n":       "DATA 0 v=0 zxid=0x0\n\n",
		"ping\n":        "OK pong\n",
		"p":             "",
		"ruo":           "",
		"ruok":          "imok",
		"ruox\n":        "ERR UNKNOWN\n",
		"ru ok\n":       "ERR UNKNOWN\n",
		"RUOK\n":        "ERR UNKNOWN\n",
		" ruok\n":       "ERR UNKNOWN\n",
		"PING\nruok\n":  "OK pong\nERR UNKNOWN\n",
		"status\n":      "stat is not executed because it is not in the whitelist.\n",
		"x\nPING\n":     "ERR UNKNOWN\nOK pong\n",
		"@a ruok\n":     "@a ERR UNKNOWN\n",
		"\xff\xf6get ":  "",
		"\xff\xf4":      "ERR PROTOCOL\n",
		"\x16\x03\x01":  "",
		"\x00\x00\x00,": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, direct)
			c := w.pipes().open(home)
			go func() {
				for _, b := range []byte(in) {
					c.say(string([]byte{b}))
				}
			}()
			synctest.Wait()
			if got := plain(c.got.String()); got != want {
				t.Errorf("%q: got %q, want %q", in, got, want)
			}
			if closed := in[0] == 0x16; closed != c.ended() && closed {
				t.Errorf("%q: not closed", in)
			}
			_ = c.Close()
		})
	}
}

// TestToolsCanRead checks the regular expressions with which clients and exporters parse the words.
func TestToolsCanRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := w.tcp()
	alone := func(in string) string { // waits until the previous connection has ended
		eventually(t, func() bool { return frontend.Connections(w.front) == 0 })
		return ask(t, addr, in)
	}
	alone("CREATE /a x\nSET /a y\nGET /a\nFROB\nQUIT\n")
	srvr := alone("srvr")
	// go-zookeeper/zk, FLWSrvr.
	goZookeeper := regexp.MustCompile(`^Zookeeper version: ([A-Za-z0-9\.\-]+), built on (\d\d/\d\d/\d\d\d\d \d\d:\d\d [A-Za-z0-9:\+\-]+)` +
		`\sLatency min/avg/max: (\d+)/([0-9.]+)/(\d+)\sReceived: (\d+)\sSent: (\d+)\sConnections: (\d+)\sOutstanding: (\d+)\sZxid: (0x[A-Za-z0-9]+)\sMode: (\w+)\sNode count: (\d+)`)
	m := goZookeeper.FindStringSubmatch(srvr)
	if m == nil {
		t.Fatalf("go-zookeeper cannot read %q", srvr)
	}
	m[8] = "" // connections: the previous one may still be ending
	if strings.Join(m[6:], " ") != "6 5  0 0x100000002 standalone 5" {
		t.Errorf("srvr: %q", m[6:])
	}
	// kazoo, server_version(): any digits and dots after the word.
	if !regexp.MustCompile(`version: (\d+)\.(\d+)\.(\d+)`).MatchString(srvr) {
		t.Errorf("kazoo cannot read %q", srvr)
	}
	facts := map[string]string{}
	for line := range strings.Lines(alone("mntr\n")) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || !regexp.MustCompile(`^zk_[a-z0-9_]+$`).MatchString(key) || value == "" {
			t.Errorf("mntr: %q", line)
		}
		if _, twice := facts[key]; twice {
			t.Errorf("mntr: %s comes twice", key)
		}
		facts[key] = value
	}
	for key, want := range map[string]string{
		"zk_server_state": "standalone", "zk_znode_count": "5", "zk_watch_count": "0", "zk_ephemerals_count": "0", "zk_outstanding_requests": "0",
		"zk_packets_received": "7", "zk_packets_sent": "6", "zk_num_alive_connections": "", "zk_max_latency": "", "zk_min_latency": "", "zk_avg_latency": "",
		"zk_approximate_data_size": "", "zk_coord_writes": "2", "zk_global_sessions": "0", "zk_connection_rejected": "0", "zk_auth_failed_count": "0",
	} {
		got, ok := facts[key]
		if !ok || want != "" && got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
		if _, err := strconv.ParseFloat(got, 64); err != nil && key != "zk_server_state" {
			t.Errorf("%s is %q", key, got)
		}
	}
}

func (n *fakeNode) Conf() []frontend.Fact {
	return []frontend.Fact{{Key: "clientPort", Value: "2181"}, {Key: "dataDir", Value: "/data"}}
}

func (n *fakeNode) Environment() []frontend.Fact {
	return []frontend.Fact{{Key: "host.name", Value: "h"}, {Key: "os.memory.free", Value: "3MB"}}
}

func (n *fakeNode) Sizes() (snapshots, log int64) { return 457, 67109337 }

func (n *fakeNode) ResetStats() { n.resets.Add(1) }
