package text

import (
	"flag"
	"fmt"
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

// section returns the text under a heading, up to the next heading of its level.
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

// verbsDoc generates the part of the documentation that lists the verbs.
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

// token is one part of a form, between spaces.
type token struct {
	alts     []string // it is one of these
	optional bool
	under    int // index of the token whose brackets contain it, such as RM's limit, which needs recursive; else -1
}

// name splits an alternative into its name and its value, if it has one.
func (token) name(alt string) (name, val string, hasValue bool) { return strings.Cut(alt, "=") }

// tokens splits a form, or one of SESSION's, into its tokens.
func tokens(form string) (all []token) {
	var open []int
	for word := range strings.FieldsSeq(form) {
		bare := strings.Trim(word, "[]")
		tok := token{alts: []string{bare}, under: -1}
		for range strings.Count(word, "[") {
			open = append(open, len(all))
		}
		tok.optional = len(open) > 0
		if len(open) > 1 {
			tok.under = open[len(open)-2]
		}
		// live=tcp|ping is one option; GONE|VALUE=x are two words.
		if bar, eq := strings.Index(bare, "|"), strings.Index(bare, "="); bar >= 0 && (eq < 0 || bar < eq) {
			tok.alts = strings.Split(bare, "|")
		} else if bar >= 0 {
			for val := range strings.SplitSeq(bare[eq+1:], "|") {
				tok.alts = append(tok.alts, bare[:eq+1]+val)
			}
			tok.alts = tok.alts[1:]
		}
		open = open[:len(open)-strings.Count(word, "]")]
		all = append(all, tok)
	}
	return all
}

// samples are values for the placeholders in forms.
var samples = map[string]string{
	"path": "/a", "value": "x", ":len": ":2", "id": "0x5", "n": "1", "verb": "GET", "user": "me", "acl…": "world:anyone:r",
	"node": "n1", "old": "n1", "new": "n2", "host:port": "h:2888",
	"=N": "=1", "=name": "=b", "=path": "=/a/b", "=zxid": "=0x5", "=id": "=0x5", "=a,b,…": "=world:anyone:r",
	"ttl=": "ttl=5s", "hold=": "hold=5s", "live=": "live=ping",
}

// sample returns a word that an alternative allows.
func sample(verb, alt string) string {
	if verb == "UNWATCH" && alt == "id" {
		return "7" // an id of a watch on the connection
	}
	if s, ok := samples[alt]; ok {
		return s
	}
	if name, val, ok := strings.Cut(alt, "="); ok && samples["="+val] != "" {
		return name + samples["="+val]
	}
	return alt
}

// formLine returns a request made of the words, with the payload or lines that must follow it.
func formLine(verb string, words []string) string {
	line := strings.Join(append([]string{verb}, words...), " ") + "\n"
	if n := len(words); n > 0 && words[n-1] == samples[":len"] {
		line += "pw\n"
	}
	switch verb {
	case "TXN":
		return line + "RM /a\n"
	case "CHECK":
		return "TXN 1\n" + line
	}
	return line
}

// parseForm parses a request that is complete.
func parseForm(verb string, words ...string) (*Request, error) {
	p, line := NewParser(DefaultLimits()), formLine(verb, words)
	req, n, err := p.Next([]byte(line))
	if err == nil && (req == nil || n != len(line)) {
		return nil, fatal(znode.ErrInternal, "not whole: "+line)
	}
	return req, err
}

// TestDocForms compares the forms, which are for people, with what the Parser accepts: it makes
// valid and invalid requests of each form.
func TestDocForms(t *testing.T) {
	for i := range verbs[1:] {
		v := &verbs[i+1]
		rest, ok := strings.CutPrefix(v.form, v.name)
		if !ok {
			t.Errorf("%s: the form is %s", v.name, v.form)
			continue
		}
		subs := strings.Split(rest, " | ")
		documented := map[string]bool{} // options found in the forms
		for _, sub := range subs {
			all := tokens(sub)
			if v.path != (len(all) > 0 && all[0].alts[0] == "path") {
				t.Errorf("%s: the path in form and table", v.name)
			}
			last := "none"
			if len(all) > 0 {
				last = all[len(all)-1].alts[0]
			}
			if v.value == valueAny != (last == "value") || v.value == valuePayload && last != ":len" {
				t.Errorf("%s: the value in form and table", v.name)
			}
			checkForm(t, v, all, documented)
		}
		if len(subs) > 1 {
			checkSubForms(t, v, subs)
		}
		checkUndocumented(t, v, subs)
		var inForm, inTable []string
		for name := range documented {
			inForm = append(inForm, name)
		}
		for _, o := range v.options {
			inTable = append(inTable, o.name)
		}
		slices.Sort(inForm)
		slices.Sort(inTable)
		if !slices.Equal(inForm, inTable) {
			t.Errorf("%s: options %v in the form, %v in the table", v.name, inForm, inTable)
		}
	}
}

// say returns the words of the tokens in use, each with its first alternative, except token which,
// which has alternative alt.
func say(verb string, all []token, use func(i int) bool, which int, alt string) (out []string) {
	for i, tok := range all {
		switch {
		case i == which:
			out = append(out, alt)
		case use(i):
			out = append(out, sample(verb, tok.alts[0]))
		}
	}
	return out
}

// checkForm makes requests of one form and records the options in it.
func checkForm(t *testing.T, v *verb, all []token, documented map[string]bool) {
	t.Helper()
	accepted := func(words []string) *Request {
		req, err := parseForm(v.name, words...)
		if err != nil {
			t.Errorf("%s %v: the form allows it, the Parser does not: %v", v.name, words, err)
		}
		return req
	}
	refused := func(words []string) {
		if req, err := parseForm(v.name, words...); err == nil {
			t.Errorf("%s %v: the form does not allow it, the Parser does: %+v", v.name, words, req)
		}
	}
	required := func(i int) bool { return !all[i].optional }
	base := say(v.name, all, required, -1, "")
	accepted(base)
	if len(all) == 0 || all[len(all)-1].alts[0] != ":len" { // :len is always the last
		refused(append(slices.Clone(base), "surplus", "surplus"))
	} else {
		refused(slices.Insert(slices.Clone(base), len(base)-1, "surplus", "surplus"))
	}
	for i, tok := range all {
		if !tok.optional {
			refused(say(v.name, all, func(j int) bool { return !all[j].optional && j != i }, -1, ""))
		}
		use := func(j int) bool { return !all[j].optional || j == tok.under }
		for _, alt := range tok.alts {
			said := sample(v.name, alt)
			req := accepted(say(v.name, all, use, i, said))
			name, val, hasValue := tok.name(alt)
			option := slices.ContainsFunc(v.options, func(o option) bool { return o.name == name })
			if !option {
				if hasValue || tok.optional && len(tok.alts) == 1 && !slices.Contains([]string{"id", "verb", "node", AdminForce}, alt) {
					t.Errorf("%s: %s is no option", v.name, alt)
				}
				continue
			}
			documented[name] = true
			twice := say(v.name, all, use, i, said)
			refused(slices.Insert(twice, slices.Index(twice, said), said))
			if hasValue {
				refused(say(v.name, all, use, i, name))
				refused(say(v.name, all, use, i, name+"="))
			} else {
				refused(say(v.name, all, use, i, name+"=1"))
			}
			// A value that is not one of samples is the default.
			if _, placeholder := samples["="+val]; hasValue && tok.optional && val != "" && !placeholder && alt == tok.alts[0] && v.name != "CREATE" && req != nil {
				plain := accepted(say(v.name, all, func(j int) bool { return use(j) && j != i }, -1, ""))
				a, b := *req, *plain
				a.HasTimeout, a.HasHold, a.HasLive, a.HasFormat = b.HasTimeout, b.HasHold, b.HasLive, b.HasFormat
				if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
					t.Errorf("%s: %s is not the default:\n%+v\n%+v", v.name, alt, a, b)
				}
			}
		}
	}
}

// checkSubForms checks that an option is accepted only in those forms that show it.
func checkSubForms(t *testing.T, v *verb, subs []string) {
	t.Helper()
	for _, sub := range subs {
		all := tokens(sub)
		base := say(v.name, all, func(i int) bool { return !all[i].optional }, -1, "")
		for _, o := range v.options {
			if strings.Contains(sub, "["+o.name+"=") {
				continue
			}
			said := map[string][]string{"ttl": {"5s", "10s"}, "hold": {"0s", "60s"}, "live": {"tcp", "ping"}, "zxid": {"0x0", "0x5"}}[o.name]
			if said == nil {
				t.Fatalf("%s: no values for %s are known here", v.name, o.name)
			}
			for _, val := range said {
				words := slices.Insert(slices.Clone(base), 1, o.name+"="+val)
				if req, err := parseForm(v.name, words...); err == nil {
					t.Errorf("%s %v is no form, and accepted: %+v", v.name, words, req)
				}
			}
		}
	}
}

// checkUndocumented checks that a word that some verb knows, as an option or alone, is accepted by
// this verb only where its form shows it.
func checkUndocumented(t *testing.T, v *verb, subs []string) {
	t.Helper()
	pool := []string{samples["id"], "7"}
	for _, names := range [][]string{watchedNames[:], conditionNames[1:], actionNames[1:], liveNames[:], formatNames[:]} {
		pool = append(pool, names...)
	}
	for i := range verbs[1:] {
		for _, o := range verbs[i+1].options {
			pool = append(pool, o.name)
		}
	}
	var everywhere []string // words of all forms of the verb
	for _, sub := range subs {
		for _, tok := range tokens(sub) {
			everywhere = append(everywhere, tok.alts...)
		}
	}
	says := func(words []string, word string) bool {
		number := (word == samples["id"] || word == "7") && slices.Contains(words, "id")
		anything := slices.ContainsFunc(words, func(w string) bool { return w == "verb" || w == "node" || w == "old" })
		return number || anything ||
			slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, word) })
	}
	refused := func(words []string) {
		if req, err := parseForm(v.name, words...); err == nil {
			t.Errorf("%s %v is no form, and accepted: %+v", v.name, words, req)
		}
	}
	for _, sub := range subs {
		all := tokens(sub)
		base := say(v.name, all, func(i int) bool { return !all[i].optional }, -1, "")
		var here []string
		for _, tok := range all {
			here = append(here, tok.alts...)
		}
		end := len(base)
		if v.value != valueNone && slices.Contains([]string{"value", ":len"}, all[len(all)-1].alts[0]) {
			end--
		}
		for _, word := range pool {
			if !says(here, word) {
				refused(slices.Insert(slices.Clone(base), end, word))
			}
			for i, tok := range all {
				name, val, hasValue := strings.Cut(tok.alts[0], "=")
				switch {
				case hasValue && (len(tok.alts) > 1 || slices.Contains(pool, val) && samples["="+val] == "") && !says(here, name+"="+word): // the forms list all values of live and format
					refused(say(v.name, all, func(j int) bool { return !all[j].optional }, i, name+"="+word))
				case !tok.optional && !slices.Contains([]string{"path", "value", ":len", "user"}, name) && !says(everywhere, word):
					refused(say(v.name, all, func(j int) bool { return !all[j].optional }, i, word))
				}
			}
		}
	}
}

// TestVerbsAreNoFourLetterWords protects the detection of the protocol from the first bytes of a
// connection.
func TestVerbsAreNoFourLetterWords(t *testing.T) {
	for word := range strings.FieldsSeq("conf cons crst dirs dump envi gtmk hash icfg isro lead mntr ruok srst srvr stat stmk wchc wchp wchs") {
		for i := range verbs[1:] {
			if name := verbs[i+1].name; strings.HasPrefix(strings.ToLower(name), word) {
				t.Errorf("%s begins with %s", name, word)
			}
		}
	}
}

// rows returns the names in the first column of the tables of a section.
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
	commands, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	same := 0
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
		if m := regexp.MustCompile(`(?m)^\| ` + name + ` \| (\d+) \|$`).FindSubmatch(commands); m == nil {
			continue // another test compares that page with the commands
		} else if same++; string(m[1]) != strings.TrimSpace(cols[3]) {
			t.Errorf("%s: the exit code is %s in commands.md, here%s", name, m[1], cols[3])
		}
	}
	if same < len(names)/2 {
		t.Errorf("only %d exit codes found in commands.md", same)
	}
}

// TestDocEvent checks the event that the documentation shows in the three formats.
func TestDocEvent(t *testing.T) {
	doc := readDoc(t)
	e := Reply{Kind: KindEvent, Arg: "changed", Data: []byte("hello"), Fields: []Field{
		Str(KeyPath, "/cfg/name"), Zxid(KeyZxid, 0x100000007), Int(KeyVersion, 3), Int(KeyID, 1),
	}}
	var all []byte
	for _, f := range []Format{FormatText, FormatJSON, FormatB64} {
		all = e.Append(all, f, false)
	}
	if !strings.Contains(doc, "\n```\n"+string(all)+"```\n") {
		t.Errorf("not shown is\n%s", all)
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
		"1,000 unless": DefaultListLimit, "100 unless": DefaultRemoveLimit, "4,096 bytes": znode.MaxPathBytes,
		"24 h": MaxWaitMS / 3_600_000, "16 MiB": DefaultLimits().Skip, "128 KiB": DefaultLimits().Txn - DefaultLimits().Payload, "1,000 |": DefaultLimits().Ops} {
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
