package words

import (
	"io"
	"net"
	"time"
)

// Ask sends a word to the server at addr. A ZooKeeper that is starting answers that it does not serve, and may leave
// the connection open, so the part of the answer that has arrived is returned with an error too.
func Ask(addr, word string, within time.Duration) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}
