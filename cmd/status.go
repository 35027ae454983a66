package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func statusCommand() *command {
	return &command{
		name: "status", does: "show the state of the server", connects: true,
		details: `Prints what an operator wants to know first, one name and value per line. data is the bytes of paths and values, slow clients
the number of clients cut off since the start, reads and writes the times from request to answer, log the most that the next
start reads. In an ensemble one line per node follows, as coord members shows it, if you have operator rights.
--all shows all figures of the server instead, with their names in the four-letter word mntr; --json always has them.`,
		examples: []string{"coord status", "coord status --server 10.0.0.7:2181", "coord status --all | grep fsync", "coord status --json | jq .facts.znode_count"},
		flags:    []cli.Flag{boolFlag("all", "all figures, with their names in mntr")},
		run:      runStatus,
	}
}

// jsonStatus is the answer of status.
type jsonStatus struct {
	V       int               `json:"v"`
	Server  string            `json:"server"`
	Version string            `json:"version"`
	Node    string            `json:"node"`
	Role    string            `json:"role"`
	Cluster string            `json:"cluster"`
	Zxid    string            `json:"zxid"`
	Facts   map[string]string `json:"facts"` // by the names of mntr, without zk_
	Members []jsonMember      `json:"members,omitempty"`
}

func runStatus(ctx context.Context, r *run) error {
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		h, err := c.Greet(ctx, clientName)
		if err != nil {
			return err
		}
		facts, err := c.Info(ctx)
		if err != nil {
			return err
		}
		members, membersErr := others(ctx, c)
		if r.json {
			out := jsonStatus{schema, c.Server(), h.Version, h.Node, h.Role, h.Cluster, h.Zxid.String(), map[string]string{}, nil}
			for _, f := range facts {
				out.Facts[f.Name] = f.Value
			}
			for i := range members {
				out.Members = append(out.Members, memberOf(&members[i]))
			}
			r.object(out)
			return nil
		}
		rows := []client.Fact{
			{Name: "server", Value: c.Server()}, {Name: "version", Value: h.Version}, {Name: "node", Value: h.Node},
			{Name: "role", Value: h.Role}, {Name: "cluster", Value: h.Cluster}, {Name: "zxid", Value: h.Zxid.String()},
		}
		if r.flags.Bool("all") {
			shown := []string{"version", "server_state"} // printed above already
			for _, f := range facts {
				if !slices.Contains(shown, f.Name) {
					rows = append(rows, f)
				}
			}
		} else {
			rows = append(rows, digestOf(facts)...)
		}
		if membersErr != nil {
			rows = append(rows, client.Fact{Name: "members", Value: "not known: " + membersErr.Error()})
		}
		r.table(rows)
		if len(members) > 0 {
			r.printf("\n")
		}
		return r.memberTable(members)
	})
}

// others are the members of the ensemble, including this one. It is nil if there are
// no others or the client may not know them.
func others(ctx context.Context, c *client.Conn) ([]client.Member, error) {
	all, err := c.Members(ctx)
	switch {
	case errors.Is(err, znode.ErrNoAuth), errors.Is(err, znode.ErrUnknown): // a server without ensembles
		return nil, nil
	case len(all) < 2:
		return nil, err
	}
	return all, nil
}

// digestOf selects the facts that fit on one screen. It leaves out rows whose fact
// the server does not report.
func digestOf(facts []client.Fact) (rows []client.Fact) {
	f := make(map[string]string, len(facts))
	for _, fact := range facts {
		f[fact.Name] = fact.Value
	}
	row := func(name, fact string, show func(string) string) {
		if v, told := f[fact]; told {
			rows = append(rows, client.Fact{Name: name, Value: show(v)})
		}
	}
	number := func(show func(int64) string) func(string) string {
		return func(v string) string {
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				return show(n)
			}
			return v
		}
	}
	latency := func(of string) func(string) string {
		return func(n string) string {
			if n == "0" {
				return "none yet"
			}
			p99 := f["p99_"+of] + " ms"
			if p99 == "0 ms" {
				p99 = "below 1 ms"
			}
			return fmt.Sprintf("%s ms, p99 %s, most %s ms", f["avg_"+of], p99, f["max_"+of])
		}
	}
	row("uptime", "uptime", number(span))
	row("znodes", "znode_count", number(count))
	row("data", "approximate_data_size", number(size))
	row("ephemerals", "ephemerals_count", number(count))
	row("sessions", "global_sessions", number(count))
	row("connections", "num_alive_connections", number(count))
	row("watches", "watch_count", number(count))
	row("slow clients", "coord_slow_clients", number(count))
	row("reads", "cnt_readlatency", latency("readlatency"))
	row("writes", "cnt_updatelatency", latency("updatelatency"))
	row("fsync", "coord_fsync_p99_ms", func(p99 string) string {
		return fmt.Sprintf("%s ms, p99 %s ms, most %s ms", f["avg_fsynctime"], p99, f["coord_fsync_max_ms"])
	})
	row("log", "coord_log_bytes", number(size))
	row("last snapshot", "coord_last_snapshot", func(zxid string) string {
		if zxid == "0x0" {
			return "none since the start"
		}
		return zxid
	})
	if f["coord_disk_full"] == "true" {
		rows = append(rows, client.Fact{Name: "disk", Value: "FULL: writes are refused"})
	}
	return rows
}

// span formats a time in ms: days and hours, or hours, minutes and seconds.
func span(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if days := d / (24 * time.Hour); days > 0 {
		return fmt.Sprintf("%dd%dh", days, d/time.Hour%24)
	}
	return d.Truncate(time.Second).String()
}

// table prints names and values in two columns.
func (c *console) table(rows []client.Fact) {
	width := 0
	for _, row := range rows {
		width = max(width, len(row.Name))
	}
	for _, row := range rows {
		c.printf("%-*s  %s\n", width, row.Name, row.Value)
	}
}
