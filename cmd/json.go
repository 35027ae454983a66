package cmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	"coord/server/text"
	"coord/tree/znode"
)

// schema is the version of the JSON that the commands print. Fields may be added;
// none is renamed or removed.
const schema = 1

type jsonError struct {
	V       int    `json:"v"`
	Error   string `json:"error,omitempty"` // the error's name in the text protocol
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Path    string `json:"path,omitempty"`
	Have    *int32 `json:"have,omitempty"`
	Line    int    `json:"line,omitempty"` // in the file that was read, from 1
	Exit    int    `json:"exit"`
}

// jsonData is a value: text if it is UTF-8, otherwise base64.
type jsonData struct {
	Data   *string `json:"data,omitempty"`
	Data64 *string `json:"data64,omitempty"`
}

func dataOf(b []byte) jsonData {
	if utf8.Valid(b) {
		s := string(b)
		return jsonData{Data: &s}
	}
	s := base64.StdEncoding.EncodeToString(b)
	return jsonData{Data64: &s}
}

// jsonStat is a stat; -s prints the same names and values.
type jsonStat struct {
	Version        int32  `json:"version"`
	Cversion       int32  `json:"cversion"`
	Aversion       int32  `json:"aversion"`
	Children       int32  `json:"children"`
	Length         int32  `json:"length"`
	EphemeralOwner string `json:"ephemeral_owner"`
	Ctime          string `json:"ctime"`
	Mtime          string `json:"mtime"`
	Czxid          string `json:"czxid"`
	Mzxid          string `json:"mzxid"`
	Pzxid          string `json:"pzxid"`
	Container      bool   `json:"container,omitempty"`
	TTLMS          int64  `json:"ttl_ms,omitempty"`
}

func statOf(s *text.Stat) *jsonStat {
	return &jsonStat{
		Version: s.Version, Cversion: s.Cversion, Aversion: s.Aversion, Children: s.NumChildren, Length: s.DataLength,
		EphemeralOwner: znode.Hex(uint64(s.EphemeralOwner)), Ctime: stamp(s.CtimeMS), Mtime: stamp(s.MtimeMS),
		Czxid: s.Czxid.String(), Mzxid: s.Mzxid.String(), Pzxid: s.Pzxid.String(), Container: s.Container, TTLMS: s.TTLMS,
	}
}

// stamp formats a time of a stat.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// jsonValue is the answer of get.
type jsonValue struct {
	V    int    `json:"v"`
	Path string `json:"path"`
	jsonData
	Version int32     `json:"version"`
	Zxid    string    `json:"zxid"`
	Stat    *jsonStat `json:"stat,omitempty"`
}

// jsonChange is the answer of set, create and rm.
type jsonChange struct {
	V       int       `json:"v"`
	Path    string    `json:"path"`
	Version *int32    `json:"version,omitempty"` // set, create
	Removed *int64    `json:"removed,omitempty"` // rm: number of znodes
	Atomic  *bool     `json:"atomic,omitempty"`  // rm -r
	Zxid    string    `json:"zxid,omitempty"`
	Stat    *jsonStat `json:"stat,omitempty"`
}

// jsonItem is a line of ls, and of rm -r --dry-run.
type jsonItem struct {
	V    int       `json:"v"`
	Path string    `json:"path"`
	Name string    `json:"name,omitempty"`
	Stat *jsonStat `json:"stat,omitempty"`
}

// jsonExists is the answer of exists.
type jsonExists struct {
	V      int       `json:"v"`
	Path   string    `json:"path"`
	Exists bool      `json:"exists"`
	Stat   *jsonStat `json:"stat,omitempty"`
}

// marshal encodes v as one line of JSON.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("cmd: " + err.Error()) // our own types can always be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// object prints v as one line of JSON.
func (c *console) object(v any) { c.printf("%s\n", marshal(v)) }

// stat prints a stat as key=value lines, with the names of the JSON.
func (c *console) stat(s *text.Stat) {
	j := statOf(s)
	c.printf("version=%d\ncversion=%d\naversion=%d\nchildren=%d\nlength=%d\nephemeral_owner=%s\nctime=%s\nmtime=%s\nczxid=%s\nmzxid=%s\npzxid=%s\n",
		j.Version, j.Cversion, j.Aversion, j.Children, j.Length, j.EphemeralOwner, j.Ctime, j.Mtime, j.Czxid, j.Mzxid, j.Pzxid)
	if j.Container {
		c.printf("container=true\n")
	}
	if j.TTLMS != 0 {
		c.printf("ttl_ms=%d\n", j.TTLMS)
	}
}
