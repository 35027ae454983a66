package testscripts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/server/zkproto"
	"coord/testscripts/words"
)

// allWords are ZooKeeper's words; those that change something are last.
const allWords = "conf cons dump envi dirs wchs wchc wchp hash isro ruok srvr stat mntr gtmk crst srst"

func askWord(t testing.TB, addr, word string) string {
	t.Helper()
	answer, err := words.Ask(addr, word, hung)
	if err != nil {
		t.Fatalf("%s: %v behind %q", word, err, answer)
	}
	return answer
}

func checkWords(t *testing.T, addr string, side words.Side, situation string) {
	t.Helper()
	for word := range strings.FieldsSeq(allWords) {
		if err := words.Check(word, side, askWord(t, addr, word)); err != nil {
			t.Errorf("%s: %v", situation, err)
		}
	}
	if err := words.Check("stmk", side, askWord(t, addr, "stmk\x00\x00\x00\x00\x00\x00\x01\x32")); err != nil {
		t.Errorf("%s: %v", situation, err)
	}
}

// TestWordsOfZooKeeper compares the shapes with a real ZooKeeper: idle; with
// sessions, ephemerals and watches; and after many changes.
func TestWordsOfZooKeeper(t *testing.T) {
	needZooKeeper(t)
	t.Parallel()
	addr := startZooKeeper(t, t.TempDir()).addr
	checkWords(t, addr, words.ZooKeeper, "idle")

	a, b := dialZooKeeper(t, addr, 30000), dialZooKeeper(t, addr, 20000)
	a.create("/e0", true)
	a.create("/e1", true)
	b.create("/p", false)
	b.create("/p/e", true)
	a.exists("/p", true)
	a.exists("/nothing", true)
	b.exists("/p", true)
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dump := askWord(t, addr, "dump")
	for _, want := range []string{")/(2):\n", "Sessions with Ephemerals (2):\n", "\t/p/e\n", fmt.Sprintf("\t0x%x\n", a.session)} {
		if !strings.Contains(dump, want) {
			t.Errorf("no %q in %s", want, dump)
		}
	}
	checkWords(t, addr, words.ZooKeeper, "busy")
	if got := askWord(t, addr, "wchs"); got != "2 connections watching 2 paths\nTotal watches:3\n" {
		t.Errorf("wchs: %q", got)
	}
	for range 300 { // for the list of digests
		b.set("/p")
	}
	checkWords(t, addr, words.ZooKeeper, "changed")
	if askWord(t, addr, "hash") == "" {
		t.Error("no digest after 300 changes")
	}
}

// zkClient speaks just enough of ZooKeeper's protocol to give the words something to show.
type zkClient struct {
	t       testing.TB
	c       net.Conn
	session uint64
	xid     uint32
}

func dialZooKeeper(t testing.TB, addr string, timeoutMS uint32) *zkClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	z := &zkClient{t: t, c: c}
	b := make([]byte, 12, 45) // version, last zxid
	b = binary.BigEndian.AppendUint32(b, timeoutMS)
	b = append(b, make([]byte, 8)...) // session
	b = binary.BigEndian.AppendUint32(b, 16)
	b = append(b, make([]byte, 17)...) // password, read only
	z.send(b)
	z.session = binary.BigEndian.Uint64(z.receive()[8:])
	return z
}

func (z *zkClient) send(body []byte) {
	z.t.Helper()
	_ = z.c.SetDeadline(time.Now().Add(hung))
	if _, err := z.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		z.t.Fatal(err)
	}
}

func (z *zkClient) receive() []byte {
	z.t.Helper()
	var size [4]byte
	_, err := io.ReadFull(z.c, size[:])
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err2 := io.ReadFull(z.c, frame); err != nil || err2 != nil {
		z.t.Fatal(errors.Join(err, err2))
	}
	return frame
}

// request sends an operation, whose reply must have one of the codes.
func (z *zkClient) request(op zkproto.Op, body []byte, codes ...int32) {
	z.t.Helper()
	z.xid++
	z.send(append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, z.xid), uint32(op)), body...))
	answer := z.receive()
	for binary.BigEndian.Uint32(answer) != z.xid { // an event
		answer = z.receive()
	}
	if code := int32(binary.BigEndian.Uint32(answer[12:])); !slices.Contains(codes, code) {
		z.t.Fatalf("operation %d: %d", op, code)
	}
}

func str(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func (z *zkClient) create(path string, ephemeral bool) {
	z.t.Helper()
	b := str(str(nil, path), "x")
	b = binary.BigEndian.AppendUint32(b, 1) // one ACL entry: all permissions for anyone
	b = binary.BigEndian.AppendUint32(b, 31)
	b = str(str(b, "world"), "anyone")
	flags := uint32(0)
	if ephemeral {
		flags = 1
	}
	z.request(1, binary.BigEndian.AppendUint32(b, flags), 0)
}

func (z *zkClient) exists(path string, watch bool) {
	z.t.Helper()
	b := append(str(nil, path), 0)
	if watch {
		b[len(b)-1] = 1
	}
	z.request(3, b, 0, -101)
}

func (z *zkClient) set(path string) {
	z.t.Helper()
	z.request(5, binary.BigEndian.AppendUint32(str(str(nil, path), "y"), ^uint32(0)), 0)
}

// TestWordsAreDocumented: the page has every word and every metric.
func TestWordsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/four-letter-words.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for word := range strings.FieldsSeq(allWords + " stmk") {
		if !strings.Contains(page, "`"+word+"`") {
			t.Errorf("%s is not documented", word)
		}
	}
	metrics := words.Metrics(words.Coord)
	if len(metrics) < 50 {
		t.Fatalf("%d metrics only", len(metrics))
	}
	for _, name := range metrics {
		if !strings.Contains(page, "`"+strings.TrimPrefix(name, "coord_")+"`") {
			t.Errorf("mntr's %s is not documented", name)
		}
	}
}

// TestWordsOfCoord compares the same shapes with the binary.
func TestWordsOfCoord(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir(), "--4lw-whitelist", "*")
	checkWords(t, p.addr, words.Coord, "idle")
	busy, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := io.WriteString(busy, "CREATE /a x\nSET /a y\nGET /a\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(busy, make([]byte, 80)); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { // a request is counted after it was handled, perhaps after its reply
		return strings.Contains(askWord(t, p.addr, "cons"), "(queued=0,recved=3,sent=3,sid=0x0,lop=GETD,est=")
	})
	checkWords(t, p.addr, words.Coord, "busy")

	// The words report the actual values.
	conf := askWord(t, p.addr, "conf")
	_, port, _ := net.SplitHostPort(p.addr)
	for _, want := range []string{"clientPort=" + port, "dataDir=" + filepath.Join(p.dir, "snapshot"), "dataLogDir=" + filepath.Join(p.dir, "wal"), "maxClientCnxns=0"} {
		if !strings.Contains(conf, want+"\n") {
			t.Errorf("no %s in %s", want, conf)
		}
	}
	host, _ := os.Hostname()
	if envi := askWord(t, p.addr, "envi"); !strings.Contains(envi, "\nhost.name="+host+"\n") {
		t.Errorf("envi: %s", envi)
	}
	var snapshots, log int64
	if _, err := fmt.Sscanf(askWord(t, p.addr, "dirs"), "datadir_size: %d\nlogdir_size: %d\n", &snapshots, &log); err != nil || snapshots == 0 || log == 0 {
		t.Errorf("dirs: %d %d %v", snapshots, log, err)
	}
	// The last round ended with srst.
	for key, least := range map[string]string{"cnt_fsynctime": "0", "cnt_updatelatency": "0", "snap_count": "0"} {
		if got := p.fact(key); got != least {
			t.Errorf("%s is %s behind srst", key, got)
		}
	}
	p.ask("SET /a z")
	for key, want := range map[string]string{"cnt_fsynctime": "1", "cnt_updatelatency": "1"} {
		var got string
		await(t, func() bool { got = p.fact(key); return got != "0" }) // it is counted after the reply, perhaps
		if got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}
