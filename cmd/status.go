package cmd

import (
	"context"
	"slices"

	"coord/client"
)

func statusCommand() *command {
	return &command{
		name: "status", does: "show how the server is", connects: true,
		examples: []string{"coord status", "coord status --server 10.0.0.7:2181", "coord status --json | jq .facts.znode_count"},
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
		if r.json {
			out := jsonStatus{schema, c.Server(), h.Version, h.Node, h.Role, h.Cluster, h.Zxid.String(), map[string]string{}}
			for _, f := range facts {
				out.Facts[f.Name] = f.Value
			}
			r.object(out)
			return nil
		}
		rows := []client.Fact{
			{Name: "server", Value: c.Server()}, {Name: "version", Value: h.Version}, {Name: "node", Value: h.Node},
			{Name: "role", Value: h.Role}, {Name: "cluster", Value: h.Cluster}, {Name: "zxid", Value: h.Zxid.String()},
		}
		shown := []string{"version", "server_state"} // above already
		for _, f := range facts {
			if !slices.Contains(shown, f.Name) {
				rows = append(rows, f)
			}
		}
		r.table(rows)
		return nil
	})
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
