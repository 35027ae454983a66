package zkproto_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"coord/server/zkproto"
)

// TestDoc: the table of operations in doc.go is the table that the Decoder uses.
func TestDoc(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var from int // the column of the request's fields
	documented := map[int]string{}
	row := regexp.MustCompile(`^//\t *(-?\d+) (\w+)(.*)`)
	for line := range strings.Lines(string(text)) {
		if i := strings.Index(line, "request "); strings.HasPrefix(line, "//\top ") {
			from = i
		}
		m := row.FindStringSubmatch(line)
		if m == nil || from == 0 {
			continue
		}
		body := ""
		if len(line) > from {
			body, _, _ = strings.Cut(line[from:], "  ")
		}
		op, _ := strconv.Atoi(m[1])
		documented[op] = m[2] + " " + strings.TrimSpace(body)
	}
	for _, s := range zkproto.Shapes() {
		want, listed := documented[int(s.Op)]
		if !s.Alone && !s.InMulti {
			if listed {
				t.Errorf("%v is documented, and not for clients", s.Op)
			}
			continue
		}
		if got := s.Op.String() + " " + strings.Join(s.Body, " "); got != want {
			t.Errorf("documented is %q, read is %q", want, got)
		}
		delete(documented, int(s.Op))
	}
	if len(documented) > 0 {
		t.Errorf("documented, but not there: %v", documented)
	}
}
