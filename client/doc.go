// Package client is the Go client of coord's text protocol. Every subcommand of coord that talks to
// a server uses it.
//
//	c, err := client.Dial(ctx, []string{"127.0.0.1:2181"}, client.Options{})
//	if err != nil { … }
//	defer c.Close()
//	value, err := c.Get(ctx, "/app", client.GetOptions{})
//
// A Conn is one connection. Any goroutine may call its methods. Requests are answered in the order
// in which they were sent. Send pipelines any number of them, and the caller waits for each Call on
// its own.
//
// # Errors
//
// A server's refusal is an *Error, and definite: the request had no effect. It unwraps to its
// znode.Code, so that errors.Is(err, znode.ErrNoNode) works. If a connection is lost while a write
// is unanswered, the error is an *Error with the code znode.ErrUncertain: the write may have
// happened; read before you repeat it. Every other failure to get an answer (no server, a read that
// was not answered) is an *UnreachableError or context.Canceled: the request had no effect, or only
// reads.
//
// A context that ends while a request is unanswered closes the connection, because its answer can
// no longer be told apart from those of later requests.
//
// A Conn has no policy: it does not repeat requests or look for the leader. Watches end with it. A
// session can outlive it: Holder keeps a session alive across lost connections, and says until when
// the session is certain to live.
package client
