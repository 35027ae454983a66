package zkproto

// Names of the fields of a request's body, as doc.go writes them.
var fieldNames = map[field]string{
	path: "path", anyPath: "path", prefix: "prefix", data: "data", acl: "acl", flags: "flags", ttl: "ttl", version: "version", watch: "watch",
	addMode: "mode", ofType: "type", authType: "0", scheme: "scheme", joining: "joining", leaving: "leaving", members: "members",
	config: "config", zxid: "zxid", lists3: "lists3", lists5: "lists5", parts: "parts",
}

// Shape is the table's row of an operation.
type Shape struct {
	Op                      Op
	Alone, InMulti, InReads bool
	Body                    []string
}

// Shapes is the table.
func Shapes() (all []Shape) {
	for _, s := range shapes {
		x := Shape{s.op, s.where&alone != 0, s.where&inMulti != 0, s.where&inReads != 0, nil}
		for _, f := range s.body {
			x.Body = append(x.Body, fieldNames[f])
		}
		all = append(all, x)
	}
	return all
}
