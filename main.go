// Coord is a coordination daemon for small hosts and its command line: see README.md.
package main

import (
	"os"

	"coord/cmd"
)

func main() {
	os.Exit(cmd.Run())
}
