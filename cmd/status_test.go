package cmd

import (
	"fmt"
	"testing"

	"coord/client"
)

// TestStatusRows: unknown facts are left out, and important ones stand out.
func TestStatusRows(t *testing.T) {
	for _, test := range []struct {
		facts []client.Fact
		want  string
	}{
		{nil, "[]"},
		{[]client.Fact{{Name: "znode_count", Value: "1234567"}, {Name: "uptime", Value: "93784000"}, {Name: "unknown", Value: "1"}}, "[{uptime 1d2h} {znodes 1,234,567}]"},
		{[]client.Fact{{Name: "uptime", Value: "3723999"}, {Name: "approximate_data_size", Value: "5000000"}}, "[{uptime 1h2m3s} {data 4882.8 KiB}]"},
		{[]client.Fact{{Name: "coord_disk_full", Value: "true"}, {Name: "coord_last_snapshot", Value: "0x5"}}, "[{last snapshot 0x5} {disk FULL: writes are refused}]"},
		{[]client.Fact{{Name: "cnt_readlatency", Value: "0"}, {Name: "coord_disk_full", Value: "false"}}, "[{reads none yet}]"},
		{[]client.Fact{{Name: "cnt_updatelatency", Value: "9"}, {Name: "avg_updatelatency", Value: "0.5"}, {Name: "p99_updatelatency", Value: "0"}, {Name: "max_updatelatency", Value: "1"}},
			"[{writes 0.5 ms, p99 below 1 ms, most 1 ms}]"},
		{[]client.Fact{{Name: "uptime", Value: "soon"}}, "[{uptime soon}]"},
	} {
		if got := fmt.Sprint(digestOf(test.facts)); got != test.want {
			t.Errorf("%v: %s, not %s", test.facts, got, test.want)
		}
	}
}
