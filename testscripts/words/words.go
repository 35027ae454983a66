// Package words asks the four-letter words and checks the shapes of their answers:
// keys, order, punctuation and units, without values. The same shapes are checked
// against a real ZooKeeper and against coord; marks say what only one of them has.
package words

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

// A shape has a line of text for each line of the answer; {name} in it stands for a
// value (see values). Marks precede the text:
//
//	zookeeper|  only ZooKeeper has the line
//	coord|      only coord has it
//	*|          any number of times; consecutive lines with this mark come in any order
//	end|        the last line has no line end
//
//go:embed shapes
var shapes embed.FS

// Side is the server that answers.
type Side string

// The sides.
const (
	ZooKeeper Side = "zookeeper"
	Coord     Side = "coord"
)

var values = map[string]string{
	"int":     `-?\d+`,
	"size":    `\d+`,
	"number":  `\d+\.\d{1,4}`,
	"id":      `0x[0-9a-f]{1,16}`,
	"zxid":    `[0-9a-f]+`,
	"text":    `[^\n]*`,
	"path":    `/[^\n]*`,
	"client":  `/(?:\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+`,
	"watcher": `(?:0x[0-9a-f]{1,16}|/\d+\.\d+\.\d+\.\d+:\d+)`,
	"ops":     `[0145]`,
	"op":      `(?:[A-Z0-9]{4}|NA)`,
	"lcxid?":  `(?:,lcxid=0x[0-9a-f]+)?`,
	"build":   `[^\n]*, built on [0-9/-]{10} \d\d:\d\d (?:UTC|GMT)`,
	"date":    `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d\d \d\d:\d\d:\d\d [^ ]+ \d{4}`,
	"name":    `[^\n\t]+?`, // of a namespace
}

var value = regexp.MustCompile(`\\\{([a-z]+\\?\??)\\\}`)

func pattern(line string) string {
	return value.ReplaceAllStringFunc(regexp.QuoteMeta(line), func(m string) string {
		name := strings.ReplaceAll(strings.Trim(m, `\{}`), `\`, "")
		v, ok := values[name]
		if !ok {
			panic("words: a shape has no value " + name)
		}
		return v
	})
}

func read(word string, side Side) []string {
	b, err := shapes.ReadFile("shapes/" + word)
	if err != nil {
		panic(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		for _, s := range []Side{ZooKeeper, Coord} {
			if rest, ok := strings.CutPrefix(line, string(s)+"|"); ok {
				line = rest
				if s != side {
					line = "#"
				}
			}
		}
		if line != "#" {
			lines = append(lines, line)
		}
	}
	return lines
}

// Check reports the first line of an answer that does not have the shape.
func Check(word string, side Side, answer string) error {
	if word == "mntr" {
		return checkMetrics(side, answer)
	}
	var whole strings.Builder
	whole.WriteString("^")
	shape := read(word, side)
	good := 0 // bytes that match so far
	for i := 0; i < len(shape); i++ {
		part := ""
		if last, ok := strings.CutPrefix(shape[i], "end|"); ok {
			part = pattern(last)
		} else if strings.HasPrefix(shape[i], "*|") {
			var any []string
			for ; i < len(shape) && strings.HasPrefix(shape[i], "*|"); i++ {
				any = append(any, pattern(strings.TrimPrefix(shape[i], "*|"))+`\n`)
			}
			i--
			part = "(?:" + strings.Join(any, "|") + ")*"
		} else {
			part = pattern(shape[i]) + `\n`
		}
		whole.WriteString(part)
		m := regexp.MustCompile(whole.String()).FindString(answer)
		if m == "" && !regexp.MustCompile(whole.String()).MatchString(answer) {
			return fmt.Errorf("%s of %s: %q is not in the answer behind byte %d:\n%s", word, side, shape[i], good, answer)
		}
		good = len(m)
	}
	if !regexp.MustCompile(whole.String() + `\z`).MatchString(answer) {
		return fmt.Errorf("%s of %s: more than is in the shape, from byte %d on:\n%s", word, side, good, answer)
	}
	return nil
}

// Metrics are the names, without zk_, of the metrics in mntr that a side always has.
func Metrics(side Side) (names []string) {
	for _, line := range read("mntr", side) {
		if name, _, _ := strings.Cut(line, " "); !strings.HasPrefix(name, "maybe|") {
			names = append(names, name)
		}
	}
	return names
}

// metricForms are the lines of each kind of metric, with the form of the value.
var metricForms = map[string][]string{
	"int": {"zk_ {int}"}, "number": {"zk_ {number}"}, "text": {"zk_ {text}"}, "build": {"zk_ {build}"},
	"summary":  {"zk_avg_ {number}", "zk_min_ {int}", "zk_max_ {int}", "zk_cnt_ {int}", "zk_sum_ {int}"},
	"advanced": {"zk_p50_ {int}", "zk_p95_ {int}", "zk_p99_ {int}", "zk_p999_ {int}"},
}

// checkMetrics compares mntr, of which ZooKeeper guarantees only the order of the
// first two lines. Each line of its shape is a metric and its kind; maybe| says
// that the metric may be missing.
func checkMetrics(side Side, answer string) error {
	type metric struct {
		line  *regexp.Regexp
		key   string
		maybe bool
		seen  int
	}
	var all []*metric
	for _, line := range read("mntr", side) {
		line, maybe := strings.CutPrefix(line, "maybe|")
		name, kind, _ := strings.Cut(line, " ")
		forms := metricForms[kind]
		if kind == "advanced" {
			forms = append(metricForms["summary"], forms...)
		}
		for _, form := range forms {
			prefix, v, _ := strings.Cut(form, " ")
			all = append(all, &metric{regexp.MustCompile("^" + pattern(prefix+name+"\t"+v) + "\n$"), prefix + name, maybe, 0})
		}
	}
	i := 0
	for line := range strings.Lines(answer) {
		known := false
		for at, m := range all {
			if m.line.MatchString(line) {
				m.seen++
				known = true
				if i < 2 && at != i {
					return fmt.Errorf("mntr of %s: line %d is %q, and %s is meant", side, i+1, line, all[i].key)
				}
				break
			}
		}
		if !known {
			return fmt.Errorf("mntr of %s: %q is no metric of the shape, or not in its form", side, line)
		}
		i++
	}
	for _, m := range all {
		if m.seen == 0 && !m.maybe || m.seen > 1 && !strings.Contains(m.key, "{") {
			return fmt.Errorf("mntr of %s: %s is there %d times", side, m.key, m.seen)
		}
	}
	return nil
}
