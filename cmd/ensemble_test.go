package cmd

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"coord/server"
)

// ensembleOf shows the ensemble options that result from a command line of coord server.
func ensembleOf(t *testing.T, args string) (shown string, warnings []string) {
	t.Helper()
	o, warnings, err := optionsOf(t, strings.Fields(args)...)
	if err != nil {
		return err.Error(), warnings
	}
	e := o.Ensemble
	if e == nil {
		return "alone", warnings
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s peers %s gossip %s", o.Name, e.PeerListen, e.GossipListen)
	for _, s := range e.Join {
		b.WriteString(" join " + s)
	}
	if e.Expect > 0 {
		fmt.Fprintf(&b, " expect %d", e.Expect)
	}
	for _, f := range e.Initial {
		fmt.Fprintf(&b, " %s=%s:%d", f.Name, f.Addr, f.GossipPort)
	}
	if e.Observer {
		b.WriteString(" observer")
	}
	if len(e.Secret) > 0 {
		fmt.Fprintf(&b, " secret %s", string(e.Secret))
	}
	if e.Advertise != "" {
		b.WriteString(" at " + e.Advertise)
	}
	return b.String(), warnings
}

// TestEnsembleFlags: which flags make a node a member of an ensemble, and where it listens then.
func TestEnsembleFlags(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "secret", "the secret of the test\r\n")
	write(t, "short", "short")
	write(t, "tls", "sslQuorum=true\n")
	write(t, "c", "secret-file=secret\nobserver=yes\njoin=a, b:7\n")
	for _, tt := range []struct{ env, args, want, warning string }{
		{"", "", "alone", ""},
		{"", "--advertise h", "alone", "advertise has no effect: the node is standalone"},
		{"", "--config tls", "alone", ""},
		{"", "--sync-limit 1h", "alone", "sync-limit has no effect: the node is standalone"},
		{"COORD_OBSERVER=false", "", "alone", ""},
		{"", "--name n --secret-file secret", "n peers :2888 gossip :2889 secret the secret of the test", ""},
		{"", "--name n --secret-file short", "n peers :2888 gossip :2889 secret short", "the cluster's secret has only 5 bytes: it can be guessed"},
		{"COORD_SECRET=from the environment\n", "--name n", "n peers :2888 gossip :2889 secret from the environment", ""},
		{"COORD_SECRET=from the environment", "--name n --secret-file secret", "n peers :2888 gossip :2889 secret the secret of the test", ""},
		{"COORD_SECRET=from the environment", "--name n --config c", "n peers :2888 gossip :2889 join a join b:7 observer secret from the environment", ""},
		{"", "--name n --config c --join x", "n peers :2888 gossip :2889 join x observer secret the secret of the test", ""},
		{"", "--name n --secret-file secret --expect 3 --join a --join b,c --advertise h",
			"n peers :2888 gossip :2889 join a join b join c expect 3 secret the secret of the test at h", ""},
		{"", "--name n --peer-listen 127.0.0.1:1 --gossip-listen [::1]:2 --observer --join a", "n peers 127.0.0.1:1 gossip [::1]:2 join a observer", ""},
		{"", "--name a --secret-file secret --initial a=h1:7,b=h2:8:9",
			"a peers :7 gossip :2889 a=h1:7:0 b=h2:8:9 secret the secret of the test", ""},
		{"", "--name b --secret-file secret --initial a=h1:7,b=h2:8:9 --peer-listen 10.0.0.1:5",
			"b peers 10.0.0.1:5 gossip :9 a=h1:7:0 b=h2:8:9 secret the secret of the test", ""},
		{"", "--name a --initial a=127.0.0.1:7:8 --initial b=127.0.0.2:9:10", "a peers 127.0.0.1:7 gossip 127.0.0.1:8 a=127.0.0.1:7:8 b=127.0.0.2:9:10", ""},
		{"", "--name b --initial a=localhost:7:8 --initial b=[::1]:9:10", "b peers [::1]:9 gossip [::1]:10 a=localhost:7:8 b=[::1]:9:10", ""},
		{"", "--name a --initial a=localhost:7:8 --initial b=127.0.0.2:9:10", "a peers 127.0.0.1:7 gossip 127.0.0.1:8 a=localhost:7:8 b=127.0.0.2:9:10", ""},
	} {
		t.Run(tt.env+tt.args, func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			got, warnings := ensembleOf(t, tt.args)
			if got != tt.want || strings.Join(warnings, "; ") != tt.warning {
				t.Errorf("got  %s %q\nwant %s %q", got, warnings, tt.want, tt.warning)
			}
		})
	}
	o, _, err := optionsOf(t, "--secret-file", "secret", "--raft-tick", "20ms", "--heartbeat-ticks", "3", "--election-ticks", "7", "--sync-limit", "3s")
	if e := o.Ensemble; err != nil || fmt.Sprint(e.Tick, e.HeartbeatTicks, e.ElectionTicks, e.SyncLimit) != "20ms 3 7 3s" {
		t.Errorf("%+v %v", e, err)
	}
}

// TestSecretOfAnother: like ssh, coord does not check the mode of another user's file.
func TestSecretOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	t.Chdir(t.TempDir())
	write(t, "secret", "the secret of the test")
	if err := os.Chmod("secret", 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret("secret"); err == nil {
		t.Error("a secret that all may read is taken")
	}
	if err := os.Chown("secret", 12345, -1); err != nil {
		t.Fatal(err)
	}
	if b, err := readSecret("secret"); err != nil || string(b) != "the secret of the test" {
		t.Errorf("%q %v", b, err)
	}
}

// TestZooServers: the server.N lines of a zoo.cfg.
func TestZooServers(t *testing.T) {
	const three = "server.1=h1:2888:3888\nserver.2=h2:2888:3888:participant\nserver.3=[fe80::3]:2888:3888\n"
	const four = three + "server.4=h4:2888:3888:observer\n"
	const founders = " 1=h1:2888:3888 2=h2:2888:3888 3=[fe80::3]:2888:3888 secret the secret of the test"
	for _, tt := range []struct{ name, cfg, myid, args, want, warning string }{
		{"three", three, "1\n", "", "1 peers :2888 gossip :3888" + founders, ""},
		{"another of them, with more in myid", three, " 03 \nx", "", "3 peers :2888 gossip :3888" + founders, ""},
		{"an observer founds nothing", four, "1", "", "1 peers :2888 gossip :3888" + founders, ""},
		{"an observer joins", four, "4", "", "4 peers :2888 gossip :3888 join h1:3888 join h2:3888 join [fe80::3]:3888 observer secret the secret of the test", ""},
		{"the line wins", four + "peerType=observer\n", "1", "", "1 peers :2888 gossip :3888" + founders, "peerType says observer, but the line server.1 says otherwise and takes precedence"},
		{"peerType alone", "peerType=Observer\njoin=h\n", "", "--name n", "n peers :2888 gossip :2889 join h observer secret the secret of the test", ""},
		{"one of one", "server.1=h1:2888:3888\n", "", "--name n", "n peers :2888 gossip :2889 secret the secret of the test", "there is only one server.N line: the node is standalone, and opens no ports for other nodes"},
		{"one of one, to grow", "server.1=127.0.0.1:2888:3888\nstandaloneEnabled=false\n", "1", "", "1 peers 127.0.0.1:2888 gossip 127.0.0.1:3888 secret the secret of the test", ""},
		{"one voter and an observer", "server.1=h1:2888:3888\nserver.2=h2:1:2:observer\n", "1", "", "1 peers :2888 gossip :3888 secret the secret of the test", ""},
		{"flags win", three, "1", "--peer-listen :5 --gossip-listen 10.0.0.1:6", "1 peers :5 gossip 10.0.0.1:6" + founders, ""},
		{"loopback", "server.1=127.0.0.1:5:6\nserver.2=localhost:7:8\n", "2", "", "2 peers 127.0.0.1:7 gossip 127.0.0.1:8 1=127.0.0.1:5:6 2=localhost:7:8 secret the secret of the test", ""},
		{"without TLS", "sslQuorum=false\n" + three, "1", "", "1 peers :2888 gossip :3888" + founders, ""},

		{"TLS that is not there", "sslQuorum=true\n" + three, "1", "", "sslQuorum requires TLS between the nodes: set peer-tls-cert, peer-tls-key and peer-tls-ca", ""},
		{"no myid", three, "", "", "data/myid is missing: it must contain the number N of this node's server.N line", ""},
		{"a foreign myid", three, "7", "", "data/myid says 7, but there is no line server.7", ""},
		{"a strange myid", three, "one", "", "data/myid: its first line is not a number", ""},
		{"only observers", "server.1=h1:2888:3888:observer\n", "1", "", "all server.N lines are observers: there would be no voter", ""},
		{"everywhere", "server.1=0.0.0.0:2888:3888\nserver.2=h2:2888:3888\n", "1", "", `initial: 1: "0.0.0.0:2888" is not a host and port at which other nodes can reach it`, ""},
		{"another name", three, "1", "--name n", "initial does not list this node, whose name is n", ""},
		{"two lists", three, "1", "--initial a=b:1,c=d:2", "server.N lines exclude join, expect and initial, which also define the other nodes", ""},
		{"two ports for clients", three + "server.5=h5:1:2;2181\nclientPort=2182\n", "5", "", "clientPort says to listen on :2182, but the line server.5 on :2181", ""},
		{"two ports for clients, with an address", three + "server.5=h5:1:2;10.0.0.5:2181\nclientPort=2182\n", "5", "", "clientPort says to listen on :2182, but the line server.5 on 10.0.0.5:2181", ""},
		{"two addresses for clients", three + "server.5=h5:1:2;10.0.0.5:2181\nclientPort=2181\nclientPortAddress=10.0.0.6\n", "5", "", "clientPort says to listen on 10.0.0.6:2181, but the line server.5 on 10.0.0.5:2181", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "secret", "the secret of the test")
			write(t, "zoo.cfg", "dataDir=data\nsecret-file=secret\n"+tt.cfg)
			if err := os.Mkdir("data", 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.myid != "" {
				write(t, "data/myid", tt.myid)
			}
			got, warnings := ensembleOf(t, "--config zoo.cfg "+tt.args)
			if got != tt.want || strings.Join(warnings, "; ") != tt.warning {
				t.Errorf("got  %s %q\nwant %s %q", got, warnings, tt.want, tt.warning)
			}
		})
	}
}

// TestZooServerClients: the client address in a server.N line, and the sync limit
// in ticks.
func TestZooServerClients(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "myid", "1")
	for _, tt := range []struct{ line, more, want string }{
		{"server.1=127.0.0.1:5:6;2181", "", "[:2181] 10s"},
		{"server.1=127.0.0.1:5:6:participant;10.0.0.1:2181", "syncLimit=5", "[10.0.0.1:2181] 10s"},
		{"server.1=127.0.0.1:5:6;[::1]:2181", "tickTime=3000\nsyncLimit=5\n", "[[::1]:2181] 15s"},
		{"server.1=127.0.0.1:5:6;0.0.0.0:2181", "clientPort=2181", "[:2181] 10s"},
		{"server.1=127.0.0.1:5:6;10.0.0.1:2181", "clientPort=2181", "[10.0.0.1:2181] 10s"},
		{"server.1=127.0.0.1:5:6", "clientPort=2182", "[:2182] 10s"},
		{"server.1=127.0.0.1:5:6", "", "[" + server.DefaultListen + "] 10s"},
	} {
		write(t, "zoo.cfg", "dataDir=.\nserver.2=127.0.0.1:7:8;9\n"+tt.line+"\n"+tt.more)
		o, _, err := optionsOf(t, "--config", "zoo.cfg")
		if err != nil {
			t.Error(tt.line, err)
			continue
		}
		if got := fmt.Sprint(o.Listen, o.Ensemble.SyncLimit); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.line, got, tt.want)
		}
		if o, _, err = optionsOf(t, "--config", "zoo.cfg", "--listen", "a:1", "--sync-limit", "1h"); err != nil || fmt.Sprint(o.Listen, o.Ensemble.SyncLimit) != "[a:1] 1h0m0s" {
			t.Errorf("%s: the flags do not win: %v %v", tt.line, o.Listen, err)
		}
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
