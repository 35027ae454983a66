// Package client is the Go client of coord's text protocol. Every subcommand of
// coord that talks to a server stands on it.
//
//	c, err := client.Dial(ctx, []string{"127.0.0.1:2181"}, client.Options{})
//	if err != nil { … }
//	defer c.Close()
//	value, err := c.Get(ctx, "/app", client.GetOptions{})
//
// A Conn is one connection. Any goroutine may call its
// methods. Requests are answered in the order in which they were sent; Send
// puts any number of them under way, and each Call is waited for on its own.
//
// # Errors
//
// A server's refusal is an *Error, and definite: nothing happened. It unwraps to
// its znode.Code, so that errors.Is(err, znode.ErrNoNode) works. A connection
// that is lost while a write is unanswered makes an *Error with the code
// znode.ErrUncertain: the write may have happened, read again before you repeat
// it. Everything else that keeps an answer away (no server, a read without an
// answer) is an *UnreachableError, or context.Canceled: nothing happened, or nothing
// was to happen.
//
// A context that ends while a request is unanswered closes the connection,
// since its answers can no longer be told from those of later requests.
//
// A Conn decides nothing: it does not repeat requests or follow leaders. Watches
// end with it. A session can outlive it: Holder keeps one alive over lost
// connections, and says until when it is certain to live.
package client
