package text

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coord/tree/znode"
)

var update = flag.Bool("update", false, "write the verbs into docs/text-protocol.md")

const docFile = "../../docs/text-protocol.md"

func readDoc(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section is what stands below a heading, up to the next of its level.
func section(t *testing.T, doc, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("there is no section %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n"+strings.TrimRight(heading, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	return rest
}

func codeWords(codes []znode.Code) string {
	var words []string
	for _, c := range codes {
		words = append(words, "`"+c.Word()+"`")
	}
	return strings.Join(words, ", ")
}

// verbsDoc is the generated part of the documentation.
func verbsDoc() string {
	var b strings.Builder
	for i := range verbs[1:] {
		v := &verbs[i+1]
		b.WriteString("### " + v.name + "\n\n`" + v.form + "`\n\n" + v.does + "\n\n")
		for _, r := range v.replies {
			b.WriteString("- reply: " + r + "\n")
		}
		if len(v.errors) > 0 {
			b.WriteString("- errors: " + codeWords(v.errors) + "\n")
		}
		if v.write {
			b.WriteString("- it writes, and can answer the errors of a write too\n")
		}
		b.WriteString("- since " + v.since + "\n\n```\n" + strings.Join(v.example, "\n") + "\n```\n\n")
	}
	return b.String()
}

func TestDocVerbs(t *testing.T) {
	doc := readDoc(t)
	const begin, end = "-update -->\n", "<!-- end of verbs -->"
	i, j := strings.Index(doc, begin), strings.Index(doc, end)
	if i < 0 || j < i {
		t.Fatal("the marks around the verbs are missing")
	}
	i += len(begin)
	if *update {
		doc = doc[:i] + "\n" + verbsDoc() + doc[j:]
		if err := os.WriteFile(docFile, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if doc[i:j] != "\n"+verbsDoc() {
		t.Error("the verbs are not those of the table: go test ./server/text -run TestDocVerbs -update")
	}
	for _, want := range []string{codeWords(anyErrors), codeWords(writeErrors)} {
		if !strings.Contains(strings.ReplaceAll(doc, "\n", " "), want) {
			t.Errorf("the errors of every verb, or of every write, are not %s", want)
		}
	}
}

// TestDocForms compares the forms, which people read, with the options, which
// the Parser reads.
func TestDocForms(t *testing.T) {
	for i := range verbs[1:] {
		v := &verbs[i+1]
		var inForm []string
		for _, m := range regexp.MustCompile(`\[([A-Za-z]+)`).FindAllStringSubmatch(v.form, -1) {
			if m[1] != "verb" {
				inForm = append(inForm, m[1])
			}
		}
		var inTable []string
		for _, o := range v.options {
			inTable = append(inTable, o.name)
			if o.value != strings.Contains(v.form, "["+o.name+"=") {
				t.Errorf("%s: the option %s has a value in one of form and table only", v.name, o.name)
			}
		}
		slices.Sort(inForm)
		slices.Sort(inTable)
		if !slices.Equal(inForm, inTable) {
			t.Errorf("%s: options %v in the form, %v in the table", v.name, inForm, inTable)
		}
		if fields := strings.Fields(v.form); v.name != fields[0] || v.path != (len(fields) > 1 && fields[1] == "path") {
			t.Errorf("%s: the form is %s", v.name, v.form)
		}
		if v.value == valueAny != strings.HasSuffix(v.form, " value") || v.value == valuePayload != strings.HasSuffix(v.form, " :len") {
			t.Errorf("%s: the value is not that of the form", v.name)
		}
	}
}

// TestVerbsAreNoFourLetterWords guards the way in which a connection's first
// bytes are told apart.
func TestVerbsAreNoFourLetterWords(t *testing.T) {
	for word := range strings.FieldsSeq("conf cons crst dirs dump envi gtmk hash icfg isro lead mntr ruok srst srvr stat stmk wchc wchp wchs") {
		for i := range verbs[1:] {
			if name := verbs[i+1].name; strings.HasPrefix(strings.ToLower(name), word) {
				t.Errorf("%s begins with %s", name, word)
			}
		}
	}
}

// rows are the names in the first column of the tables of a section.
func rows(text string) (names []string, cells map[string][]string) {
	cells = make(map[string][]string)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cols := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cols[0], -1) {
			names = append(names, m[1])
			cells[m[1]] = cols
		}
	}
	return names, cells
}

func TestDocKeys(t *testing.T) {
	names, _ := rows(section(t, readDoc(t), "## Keys"))
	for _, name := range names {
		if keys[name] == "" {
			t.Errorf("the key %s is not in the table", name)
		}
	}
	for k := range keys {
		if !slices.Contains(names, k) {
			t.Errorf("the key %s is not documented", k)
		}
	}
	keyWord := regexp.MustCompile(`\b([a-z0-9]+)=`)
	for i := range verbs[1:] {
		for _, reply := range verbs[i+1].replies {
			for _, m := range keyWord.FindAllStringSubmatch(reply, -1) {
				if keys[m[1]] == "" {
					t.Errorf("%s: a reply has the unknown key %s", verbs[i+1].name, m[1])
				}
			}
		}
	}
}

func TestDocErrors(t *testing.T) {
	names, cells := rows(section(t, readDoc(t), "## Errors"))
	numbers := map[string][]string{}
	for _, c := range znode.Codes() {
		if c == znode.OK {
			continue
		}
		word := c.Word()
		if _, ok := cells[word]; !ok {
			t.Errorf("the error %s is not documented", word)
		}
		if c > -1000 {
			numbers[word] = append(numbers[word], strconv.Itoa(int(c)))
		}
	}
	for _, name := range names {
		if code, ok := znode.CodeOf(name); !ok || code.Word() != name {
			t.Errorf("the error %s is not in the table", name)
			continue
		}
		cols := cells[name]
		if len(cols) != 4 {
			t.Errorf("%s: %d columns", name, len(cols))
			continue
		}
		documented := strings.FieldsFunc(cols[2], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(documented)
		slices.Sort(numbers[name])
		if !slices.Equal(documented, numbers[name]) {
			t.Errorf("%s: ZooKeeper's numbers are %v, documented %v", name, numbers[name], documented)
		}
		if exit, err := strconv.Atoi(strings.TrimSpace(cols[3])); err != nil || exit < 2 || exit > 19 {
			t.Errorf("%s: %q is no exit code", name, cols[3])
		}
	}
}

func TestDocReplyWords(t *testing.T) {
	doc := readDoc(t)
	for _, w := range append(slices.Clone(kindWords[1:]), data64) {
		if !strings.Contains(doc, `"`+w) && !strings.Contains(doc, "`"+w+"`") {
			t.Errorf("the reply word %s is not documented", w)
		}
	}
	for name, n := range map[string]int{"16 KiB": DefaultLimits().Line, "1 MiB": DefaultLimits().Payload, "64 bytes": MaxTagBytes,
		"1,000 unless": DefaultListLimit, "100 unless": DefaultRemoveLimit, "1,024 bytes": znode.MaxPathBytes,
		"16 MiB": DefaultLimits().Skip, "128 KiB": DefaultLimits().Txn - DefaultLimits().Payload, "1,000 |": DefaultLimits().Ops} {
		num, unit, _ := strings.Cut(name, " ")
		want, _ := strconv.Atoi(strings.ReplaceAll(num, ",", ""))
		switch unit {
		case "KiB":
			want <<= 10
		case "MiB":
			want <<= 20
		}
		if n != want || !strings.Contains(section(t, doc, "## Limits"), name) {
			t.Errorf("the limit %q is %d in the code", name, n)
		}
	}
}

func TestHelp(t *testing.T) {
	all := Help("")
	for i := range verbs[1:] {
		v := &verbs[i+1]
		if !slices.ContainsFunc(all.Items, func(r Reply) bool { return r.Arg == v.form }) {
			t.Errorf("HELP does not list %s", v.name)
		}
		one := Help(strings.ToLower(v.name))
		if one.Kind != KindList || one.Items[0].Arg != v.form {
			t.Errorf("HELP %s says %v", v.name, one)
		}
	}
	if r := Help("nonsense"); r.Kind != KindErr || r.Code != znode.ErrUnknown {
		t.Errorf("HELP nonsense says %v", r)
	}
}

// TestVerbExamples parses the examples of the table.
func TestVerbExamples(t *testing.T) {
	for i := range verbs[1:] {
		v := &verbs[i+1]
		lines := strings.Join(v.example, "\n") + "\n"
		lines = regexp.MustCompile(`:(\d)\n`).ReplaceAllStringFunc(lines, func(ref string) string {
			n, _ := strconv.Atoi(ref[1:2])
			return ref + strings.Repeat("x", n) + "\n"
		})
		p := NewParser(DefaultLimits())
		for buf := []byte(lines); len(buf) > 0; {
			req, n, err := p.Next(buf)
			if err != nil || req == nil {
				t.Errorf("%s: %q: %v", v.name, buf, err)
				break
			}
			if req.Verb.String() != v.name && v.name != "CHECK" {
				t.Errorf("%s: the example is a %s", v.name, req.Verb)
			}
			buf = buf[n:]
		}
	}
}
