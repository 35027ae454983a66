package text

import (
	"bytes"
	"math"
	"strconv"
)

// The first words of ADMIN.
const (
	AdminMembers  = "MEMBERS"
	AdminAdd      = "ADD"
	AdminRemove   = "REMOVE"
	AdminPromote  = "PROMOTE"
	AdminReplace  = "REPLACE"
	AdminTransfer = "TRANSFER"
	AdminLeave    = "LEAVE"
)

// AdminForce may be the last word of a REMOVE.
const AdminForce = "FORCE"

// MaxNodeBytes is the longest name of a node, and the longest address, in an ADMIN.
const MaxNodeBytes = 255

// adminForm says which words may follow a first word.
type adminForm struct {
	name  string
	least int // number of required words after the first
	kinds []func(*arg) (string, *Error)
}

var adminForms = []adminForm{
	{AdminMembers, 0, nil},
	{AdminAdd, 1, []func(*arg) (string, *Error){nodeAddress}},
	{AdminRemove, 1, []func(*arg) (string, *Error){nodeName, justWord(AdminForce)}},
	{AdminPromote, 1, []func(*arg) (string, *Error){nodeName}},
	{AdminReplace, 2, []func(*arg) (string, *Error){nodeName, nodeName}},
	{AdminTransfer, 0, []func(*arg) (string, *Error){nodeName}},
	{AdminLeave, 0, nil},
}

// adminFormOf returns the form of a first word, or nil.
func adminFormOf(word []byte) *adminForm {
	for i := range adminForms {
		if foldEqual(word, adminForms[i].name) {
			return &adminForms[i]
		}
	}
	return nil
}

// adminWord parses a word of ADMIN.
func adminWord(r *Request, i int, a *arg) *Error {
	if i == 0 {
		f := adminFormOf(a.val)
		if f == nil || a.quoted {
			return unexpected(a)
		}
		r.Words = append(r.Words, f.name)
		return nil
	}
	f := adminFormOf([]byte(r.Words[0]))
	if i > len(f.kinds) {
		return unexpected(a)
	}
	w, err := f.kinds[i-1](a)
	r.Words = append(r.Words, w)
	return err
}

func finishAdmin(r *Request) *Error {
	if len(r.Words) <= adminFormOf([]byte(r.Words[0])).least {
		return misuse("an argument is missing")
	}
	return nil
}

func justWord(word string) func(*arg) (string, *Error) {
	return func(a *arg) (string, *Error) {
		if a.quoted || !foldEqual(a.val, word) {
			return "", unexpected(a)
		}
		return word, nil
	}
}

func nodeName(a *arg) (string, *Error) {
	if len(a.val) == 0 || len(a.val) > MaxNodeBytes {
		return "", misuse("expected a node's id or name, of at most " + strconv.Itoa(MaxNodeBytes) + " bytes")
	}
	return string(a.val), nil
}

func nodeAddress(a *arg) (string, *Error) {
	colon := bytes.LastIndexByte(a.val, ':')
	port, ok := parseUint(a.val[colon+1:])
	if colon < 1 || !ok || port == 0 || port > math.MaxUint16 || len(a.val) > MaxNodeBytes {
		return "", misuse("the address " + errText(a.val) + " is not host:port with the port for peers")
	}
	return string(a.val), nil
}
