package cmd

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// yamlDump writes one mapping from paths to values, pair by pair, so that the
// mapping is never completely in memory. It ends with YAML's mark for the end of a
// document.
type yamlDump struct{ w io.Writer }

const yamlEnd = "..."

func (d yamlDump) add(e entry, _ bool) error {
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(e.data)}
	if !utf8.Valid(e.data) {
		value.Tag, value.Value = "!!binary", base64.StdEncoding.EncodeToString(e.data)
	}
	pair := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: e.path}, value,
	}}
	b, err := yaml.Marshal(pair)
	// If the library would not read a string back unchanged (it had such bugs), the
	// string is written as JSON, which is also YAML.
	if back, _, readErr := readYAMLDump(b); err != nil || readErr != nil || len(back) != 1 || back[0].path != e.path || !bytes.Equal(back[0].data, e.data) {
		b = fmt.Appendf(nil, "? %s\n: %s\n", marshal(e.path), marshal(string(e.data)))
	}
	_, err = d.w.Write(b)
	return err
}

func (d yamlDump) end() error {
	_, err := io.WriteString(d.w, yamlEnd+"\n")
	return err
}

func readYAMLDump(in []byte) (all []entry, whole bool, err error) {
	lines := strings.Split(strings.TrimRight(string(in), " \r\n"), "\n")
	whole = strings.TrimSpace(lines[len(lines)-1]) == yamlEnd && !strings.HasPrefix(lines[len(lines)-1], " ")
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(in))
	switch err := dec.Decode(&doc); {
	case err == io.EOF: //nolint:errorlint // the library's word for nothing at all
		return nil, whole, nil
	case err != nil:
		return nil, false, usagef("%v", err)
	}
	if err := dec.Decode(new(yaml.Node)); err != io.EOF { //nolint:errorlint // as above
		return nil, false, usagef("expected one YAML document")
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, whole, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, false, &lineError{line: top.Line, err: usagef("expected a mapping from paths to values")}
	}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		e := entry{path: key.Value, line: key.Line}
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			return nil, false, &lineError{line: key.Line, err: usagef("expected a path")}
		case value.Kind != yaml.ScalarNode:
			return nil, false, &lineError{line: key.Line, err: &usageError{msg: "the value of " + quote(key.Value) + " is not text", hint: "write each znode with its whole path: /hosts/a: value"}}
		case value.Tag == "!!binary":
			if e.data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value.Value), "")); err != nil {
				return nil, false, &lineError{line: value.Line, err: usagef("!!binary: %v", err)}
			}
		case value.Tag != "!!null": // numbers and the like, as they are written
			e.data = []byte(value.Value)
		}
		all = append(all, e)
	}
	return all, whole, nil
}
