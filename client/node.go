package client

import (
	"context"

	"coord/server/text"
	"coord/tree/znode"
)

// Hello is a node's introduction.
type Hello struct {
	Version string // of coord
	Node    string
	Role    string
	Cluster string
	Zxid    znode.Zxid // of the last change that it has applied
}

// roleCandidate is the Role of a node that looks for a leader.
const roleCandidate = "candidate"

// Hello returns the node's introduction when it was dialled.
func (c *Conn) Hello() Hello { return c.hello }

// Greet sends HELLO; name is this client's name and may be empty. Dial calls it.
func (c *Conn) Greet(ctx context.Context, name string) (Hello, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbHello}, Name: name})
	if err != nil {
		return Hello{}, err
	}
	return Hello{
		Version: r.Str(text.KeyNodeVersion), Node: r.Str(text.KeyNode), Role: r.Str(text.KeyRole),
		Cluster: r.Str(text.KeyCluster), Zxid: r.Zxid(text.KeyZxid),
	}, nil
}

// Auth adds the identity of a user to the connection.
func (c *Conn) Auth(ctx context.Context, user string, password []byte) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbAuth, Value: password}, Name: user})
	return err
}

// Ping checks that the node answers.
func (c *Conn) Ping(ctx context.Context) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbPing}})
	return err
}

// Fact is one of the figures that a node reports about itself.
type Fact struct{ Name, Value string }

// Info reads the figures that the node reports about itself.
func (c *Conn) Info(ctx context.Context) ([]Fact, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbInfo}})
	if err != nil {
		return nil, err
	}
	facts := make([]Fact, len(r.Items))
	for i := range r.Items {
		facts[i] = Fact{r.Items[i].Arg, r.Items[i].Str(text.KeyValue)}
	}
	return facts, nil
}
