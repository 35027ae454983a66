package client

import (
	"context"

	"coord/server/text"
	"coord/tree/znode"
)

// Hello is how a node introduces itself.
type Hello struct {
	Version string // of coord
	Node    string
	Role    string
	Cluster string
	Zxid    znode.Zxid // of the last change that it has applied
}

// Hello is what the node said when it was dialled.
func (c *Conn) Hello() Hello { return c.hello }

// Greet says hello; name is this client's, and may be empty. Dial does it.
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

// Ping sees that the node answers.
func (c *Conn) Ping(ctx context.Context) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbPing}})
	return err
}

// Fact is one of the figures that a node tells about itself.
type Fact struct{ Name, Value string }

// Info reads what the node tells about itself.
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
