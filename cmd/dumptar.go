package cmd

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
)

// tarDump writes a znode without children as a file, and a znode with children as a
// folder; the value of the latter, unless empty, is the file .value in the folder.
// A znode that is itself named .value (or ..value, and so on) gets one more dot in
// the archive. The archive contains no times, so that the same tree gives the same
// bytes.
type tarDump struct{ w *tar.Writer }

func newTarDump(w io.Writer) dumpWriter { return tarDump{tar.NewWriter(w)} }

const valueFile = ".value"

// dotsOf is the number of dots before "value" if the name consists of nothing else,
// and 0 otherwise.
func dotsOf(name string) int {
	rest := strings.TrimLeft(name, ".")
	if rest != strings.TrimPrefix(valueFile, ".") {
		return 0
	}
	return len(name) - len(rest)
}

// tarName is the name of a znode in the archive.
func tarName(p string) string {
	parts := strings.Split(p[1:], "/")
	for i := range parts {
		if dotsOf(parts[i]) > 0 {
			parts[i] = "." + parts[i]
		}
	}
	return strings.Join(parts, "/")
}

// pathOfTar is the path of the znode to which an archive member belongs; value says
// that the member is its .value.
func pathOfTar(name string) (p string, value bool, err error) {
	name = path.Clean(name)
	if name == "." {
		return "/", false, nil
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		switch dots := dotsOf(part); {
		case part == "" || part == "..":
			return "", false, usagef("%s is not a path inside the archive", quote(name))
		case dots == 1 && i < len(parts)-1:
			return "", false, usagef("%s: %s must be a file, with the value of its folder", quote(name), valueFile)
		case dots == 1:
			return "/" + strings.Join(parts[:i], "/"), true, nil
		case dots > 1:
			parts[i] = part[1:]
		}
	}
	return "/" + strings.Join(parts, "/"), false, nil
}

func (d tarDump) add(e entry, parent bool) error {
	name := tarName(e.path)
	if !parent && e.path != "/" {
		return d.file(name, e.data)
	}
	if e.path == "/" {
		name = "."
	}
	if err := d.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil || len(e.data) == 0 {
		return err
	}
	return d.file(name+"/"+valueFile, e.data)
}

func (d tarDump) file(name string, data []byte) error {
	if err := d.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := d.w.Write(data)
	return err
}

func (d tarDump) end() error { return d.w.Close() }

func readTarDump(in []byte) (all []entry, whole bool, err error) {
	folders := map[string]int{} // indexes into all
	left := bytes.NewReader(in)
	for r := tar.NewReader(left); ; {
		const block = 512
		last := len(in) - left.Len() // where the data of the last entry ends
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF): // an archive ends with two empty blocks
			behind := in[min((last+block-1)/block*block, len(in)):]
			return all, bytes.HasPrefix(behind, make([]byte, 2*block)), nil
		case err != nil:
			return nil, false, usagef("the archive cannot be read: %v", err)
		case h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeReg:
			return nil, false, usagef("%s is neither a file nor a folder", quote(h.Name))
		}
		p, value, err := pathOfTar(h.Name)
		if err != nil {
			return nil, false, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, false, usagef("%s: %v", quote(h.Name), err)
		}
		folder := h.Typeflag == tar.TypeDir
		i, known := folders[p]
		switch {
		case value && folder:
			return nil, false, usagef("%s is a folder: expected a file with the value of its folder", quote(h.Name))
		case known && value:
			all[i].data = data
			continue
		case known && folder:
			continue
		case value || folder:
			folders[p] = len(all)
		}
		all = append(all, entry{path: p, data: data})
	}
}
