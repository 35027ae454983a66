package znode

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxPathBytes is the length of the longest path. ZooKeeper's only limit is the frame; this is one
// of coord's allowed differences. Software built on ZooKeeper's clients reaches 1,024 bytes: Dubbo
// names a znode by a URL (docs/clients.md), and the suites of two clients use names of 2,000 bytes.
const MaxPathBytes = 4096

var tooLong = "is longer than " + strconv.Itoa(MaxPathBytes) + " bytes"

// Reserved paths. They exist from the first start and cannot be deleted.
const (
	Root        = "/"
	SystemPath  = "/zookeeper"
	QuotaPath   = "/zookeeper/quota"
	ConfigPath  = "/zookeeper/config"
	LimitsName  = "zookeeper_limits" // below QuotaPath + path: the limits set for path
	StatsName   = "zookeeper_stats"  // beside it: what is in use
	sequenceLen = 10                 // digits appended to a sequential name
)

// CheckPath returns what is wrong with a path, or nil. The rules are ZooKeeper's
// PathUtils.validatePath: absolute, no trailing slash, no empty, "." or ".." component, no control,
// surrogate, private-use or special character, nothing outside the Basic Multilingual Plane; and at
// most MaxPathBytes of valid UTF-8.
func CheckPath(path string) error {
	switch {
	case path == "":
		return &PathError{path, "is empty"}
	case path[0] != '/':
		return &PathError{path, "does not start with /"}
	case len(path) > MaxPathBytes:
		return &PathError{path, tooLong}
	case path == Root:
		return nil
	case path[len(path)-1] == '/':
		return &PathError{path, "ends with /"}
	}
	ascii := true
	for i, start := 1, 1; i <= len(path); i++ { // start is that of the current component
		if i < len(path) && path[i] != '/' {
			if c := path[i]; c < 0x20 || c == 0x7f {
				return &PathError{path, "has a control character"}
			} else if c > 0x7f {
				ascii = false
			}
			continue
		}
		switch part := path[start:i]; part {
		case "":
			return &PathError{path, "has an empty component"}
		case ".", "..":
			return &PathError{path, "has the component " + part}
		}
		start = i + 1
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(path) {
		return &PathError{path, "is not valid UTF-8"}
	}
	for _, r := range path {
		if r >= 0x80 && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 {
			return &PathError{path, "has a character that is not allowed"}
		}
	}
	return nil
}

// CheckCreatePath checks the path of a create before the sequence number is known: a sequential
// name may be empty, so that only the digits remain.
func CheckCreatePath(path string, mode Mode) error {
	if mode.Sequential() {
		if len(path) > MaxPathBytes-sequenceLen {
			return &PathError{path, tooLong}
		}
		return CheckPath(path + "0")
	}
	return CheckPath(path)
}

// Reserved says whether the znode at path may never be deleted.
func Reserved(path string) bool {
	return path == Root || path == SystemPath || path == QuotaPath || path == ConfigPath
}

// Split cuts a valid path into its parent's path and its last component. The
// root's parent is "" and its name is "".
func Split(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	switch {
	case path == Root || i < 0:
		return "", ""
	case i == 0:
		return Root, path[1:]
	default:
		return path[:i], path[i+1:]
	}
}

// Join puts a parent's path and a name together.
func Join(parent, name string) string {
	if parent == Root {
		return Root + name
	}
	return parent + "/" + name
}

// Below says whether path is top or lies under it.
func Below(path, top string) bool {
	if top == Root {
		return true
	}
	return strings.HasPrefix(path, top) && (len(path) == len(top) || path[len(top)] == '/')
}

// PathError says which rule a path breaks. It is an ErrBadArguments.
type PathError struct{ Path, Why string }

func (e *PathError) Error() string { return "path " + quoteShort(e.Path) + " " + e.Why }

// Unwrap makes errors.Is(err, ErrBadArguments) true.
func (e *PathError) Unwrap() error { return ErrBadArguments }
