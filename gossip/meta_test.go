package gossip

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func sampleMember() Member {
	return Member{
		Node: 1, Boot: 2, Cluster: [16]byte{3}, Name: "n1", Host: "10.0.0.1", GossipPort: 2889, PeerPort: 2888, ClientPort: 2181,
		Role: 4, State: 5, Expect: 6, Proto: 7, View: 8,
	}
}

// TestMetaBytes: these bytes are a promise to other versions; later versions may append to them.
func TestMetaBytes(t *testing.T) {
	t.Parallel()
	want := "01" + "0000000000000001" + "0000000000000002" + "03" + strings.Repeat("00", 15) + "0b49" + "0b48" + "0885" +
		"04050607" + "0000000000000008" + "026e31" + "0831302e302e302e31"
	m := sampleMember()
	b := m.encode()
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	later := append(bytes.Clone(b), 1, 2, 3)
	later[0] = 2
	for _, b := range [][]byte{b, later} {
		if got, err := decodeMember(b); got != m || err != nil {
			t.Errorf("%+v %v", got, err)
		}
	}
	for n := range b {
		if _, err := decodeMember(b[:n]); err == nil {
			t.Errorf("cut at %d: taken", n)
		}
	}
	for name, change := range map[string]func(m *Member){
		"no node": func(m *Member) { m.Node = 0 },
		"name":    func(m *Member) { m.Name = strings.Repeat("x", MaxName+1) },
		"host":    func(m *Member) { m.Host = strings.Repeat("x", MaxHost+1) },
	} {
		bad := m
		change(&bad)
		if _, err := decodeMember(bad.encode()); err == nil || bad.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
	m.Name, m.Host = strings.Repeat("x", MaxName), strings.Repeat("x", MaxHost)
	if b := m.encode(); len(b) >= 512 {
		t.Errorf("%d bytes", len(b))
	}
}

func FuzzMeta(f *testing.F) {
	m := sampleMember()
	f.Add(m.encode())
	f.Add(append(m.encode(), 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMember(b)
		if err != nil {
			return
		}
		again, err := decodeMember(m.encode())
		if err != nil || again != m {
			t.Errorf("%+v became %+v: %v", m, again, err)
		}
	})
}
