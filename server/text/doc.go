// Package text is the codec of coord's text protocol, in both directions: the server parses
// requests (Parser) and appends replies (Reply.Append), a client appends requests (AppendRequest)
// and reads replies (Reader). The specification for users is docs/text-protocol.md; verbs, reply
// keys and error codes are in the tables of this package, and a test compares the two.
//
// The package is pure: it converts between bytes and structs. It knows no socket, clock, tree or
// session, starts no goroutine and takes no lock. A Parser and a Reader belong to one connection
// and are used by one goroutine at a time; any goroutine may call everything else.
//
//	request  [@tag SP] verb {SP arg} EOL [payload EOL]
//	         arg      word | "quoted" | key=word | key="quoted"
//	         payload  announced by a last argument :N, exactly N bytes
//	         EOL      LF | CR LF | CR NUL | CR NUL LF
//	reply    [@tag SP] OK [word] {SP k=v} EOL
//	         [@tag SP] DATA n {SP k=v} EOL  n bytes  EOL
//	         [@tag SP] LIST n {SP k=v} EOL  n times  ITEM arg {SP k=v} EOL, or OK, DATA, ERR as above
//	         [@tag SP] ERR CODE {SP k=v} [SP - SP message] EOL
//	event    EVENT type {SP k=v} [SP :n] EOL [n bytes EOL]
//	stream   [@tag SP] CHUNK n EOL  n bytes  EOL
//	         [@tag SP] END {SP k=v} EOL
package text
