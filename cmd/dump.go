package cmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"coord/tree/znode"
)

// entry is a znode in an exported file.
type entry struct {
	path string // below the exported znode, which itself is "/"
	data []byte
	line int // in the file, from 1; 0: the format has no lines
}

// dumpFormat is a format of exported files. Each format has an end mark, so that a
// truncated file is not taken for a complete one.
type dumpFormat struct {
	name     string
	suffixes []string // of file names; the first is the usual one
	binary   bool     // not for terminals
	write    func(w io.Writer) dumpWriter
	// read parses a file; whole says that it has its end mark. read leaves the
	// file's name in a lineError empty.
	read func(in []byte) (all []entry, whole bool, err error)
}

// dumpWriter writes the entries of a tree, parents before their children.
type dumpWriter interface {
	// add writes an entry; parent says whether children of it follow.
	add(e entry, parent bool) error
	end() error
}

func dumpFormats() []dumpFormat {
	return []dumpFormat{
		{name: "json", suffixes: []string{".json", ".ndjson", ".jsonl"}, write: func(w io.Writer) dumpWriter { return jsonDump{w} }, read: readJSONDump},
		{name: "yaml", suffixes: []string{".yaml", ".yml"}, write: func(w io.Writer) dumpWriter { return yamlDump{w} }, read: readYAMLDump},
		{name: "tar", suffixes: []string{".tar"}, binary: true, write: newTarDump, read: readTarDump},
		{name: "env", suffixes: []string{".env"}, write: func(w io.Writer) dumpWriter { return envDump{w} }, read: readEnvDump},
	}
}

func dumpFormatNames() (names []string) {
	for _, f := range dumpFormats() {
		names = append(names, f.name)
	}
	return names
}

// dumpFormat is the format that --format names, or that of the file's name, or JSON.
func (r *run) dumpFormat(file string) (dumpFormat, error) {
	all := dumpFormats()
	name := r.flags.String("format")
	if name == "" && file == "-" {
		return all[0], nil
	}
	i := slices.IndexFunc(all, func(f dumpFormat) bool {
		if name != "" {
			return f.name == name
		}
		return slices.Contains(f.suffixes, strings.ToLower(filepath.Ext(file)))
	})
	switch known := strings.Join(dumpFormatNames(), ", "); {
	case i >= 0:
		return all[i], nil
	case name != "":
		return dumpFormat{}, usagef("--format %s: expected one of %s", quote(name), known)
	default:
		return dumpFormat{}, &usageError{msg: "the name of " + file + " does not show its format", hint: "give the --format: one of " + known}
	}
}

// jsonEntry is a line of the format json.
type jsonEntry struct {
	V    int    `json:"v"`
	Path string `json:"path,omitempty"`
	jsonData
	End bool `json:"end,omitempty"` // set in the last line
}

type jsonDump struct{ w io.Writer }

func (d jsonDump) add(e entry, _ bool) error {
	return d.line(jsonEntry{V: schema, Path: e.path, jsonData: dataOf(e.data)})
}

func (d jsonDump) end() error { return d.line(jsonEntry{V: schema, End: true}) }

func (d jsonDump) line(e jsonEntry) error {
	_, err := d.w.Write(append(marshal(e), '\n'))
	return err
}

func readJSONDump(in []byte) (all []entry, whole bool, err error) {
	number := 0
	for line := range bytes.Lines(in) {
		number++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		j := jsonEntry{V: schema}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		err := dec.Decode(&j)
		if err == nil {
			if _, more := dec.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("expected one object per line")
			}
		}
		e := entry{path: j.Path, line: number}
		switch {
		case err != nil && j.V <= schema:
			err = usagef("%v", err)
		case j.V > schema:
			err = fmt.Errorf("version %d of the format, which this coord does not support: %w", j.V, znode.ErrUnimplemented)
		case whole:
			err = usagef("line after the end mark")
		case j.End:
			whole = true
			continue
		case j.Data != nil && j.Data64 != nil:
			err = usagef("data and data64 exclude each other")
		case j.Data != nil:
			e.data = []byte(*j.Data)
		case j.Data64 != nil:
			if e.data, err = base64.StdEncoding.DecodeString(*j.Data64); err != nil {
				err = usagef("data64: %v", err)
			}
		}
		if err != nil {
			return nil, false, &lineError{line: number, err: err}
		}
		all = append(all, e)
	}
	return all, whole, nil
}
