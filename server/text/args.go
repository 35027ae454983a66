package text

import (
	"bytes"
	"math"
	"strconv"

	"coord/tree/znode"
)

// option is an option that may follow the path of a verb: a flag, or name=value.
type option struct {
	name  string
	value bool
	set   func(r *Request, val []byte) *Error
}

// parseArgs parses the arguments of a verb into r: the path, words or options, and the value. ref
// is the length of the payload that follows, or -1.
func parseArgs(id Verb, r *Request, args []arg, ref int64) *Error {
	v := &verbs[id]
	r.Verb, r.Version = id, AnyVersion
	if v.path {
		switch {
		case len(args) == 0:
			return v.misused("a path is missing")
		case args[0].key != nil:
			return v.misused("quote the whole path or none of it")
		}
		r.Path = string(args[0].val)
		args = args[1:]
	}
	if v.value == valueAny && ref < 0 {
		if len(args) == 0 {
			return v.misused(`a value is missing (write "" for an empty one)`)
		}
		last := &args[len(args)-1]
		if last.key != nil {
			return v.misused("quote the whole value or none of it")
		}
		if r.Value = last.val; r.Value == nil {
			r.Value = []byte{}
		}
		args = args[:len(args)-1]
	}
	if v.value == valueNone && ref >= 0 {
		return v.misused("this verb takes no value")
	}
	var seen uint64
	words := 0
	for i := range args {
		a := &args[i]
		if k := v.option(a); k >= 0 {
			if seen&(1<<k) != 0 {
				return v.misused("the option " + v.options[k].name + " is given twice")
			}
			seen |= 1 << k
			if err := v.setOption(r, &v.options[k], a); err != nil {
				return v.explain(err)
			}
			continue
		}
		if v.word == nil || a.key != nil {
			return v.unexpected(a)
		}
		if err := v.word(r, words, a); err != nil {
			return v.explain(err)
		}
		words++
	}
	if words < v.words {
		return v.misused("an argument is missing")
	}
	if v.value == valuePayload && ref < 0 {
		return v.misused("the last argument must be :len, and the bytes follow the line")
	}
	if v.value == valueMaybe && ref >= 0 {
		r.Value = []byte{} // the payload sets it
	}
	if v.finish != nil {
		if err := v.finish(r); err != nil {
			return v.explain(err)
		}
	}
	if v.path {
		if err := checkPath(r); err != nil {
			return syntaxError(err.Error())
		}
	}
	return nil
}

func checkPath(r *Request) error {
	if r.Mode.Sequential() {
		return znode.CheckCreatePath(r.Path, r.Mode)
	}
	return znode.CheckPath(r.Path)
}

// option returns the index of the option that an argument names, or -1.
func (v *verb) option(a *arg) int {
	name := a.key
	if name == nil {
		if a.quoted {
			return -1
		}
		name = a.val
		if i := bytes.IndexByte(name, '='); i >= 0 {
			name = name[:i]
		}
	}
	for i := range v.options {
		if o := &v.options[i]; len(name) == len(o.name) && foldEqual(name, o.name) {
			return i
		}
	}
	return -1
}

// setOption passes its value to an option.
func (v *verb) setOption(r *Request, o *option, a *arg) *Error {
	val, given := a.val, a.key != nil
	if !given {
		if i := bytes.IndexByte(val, '='); i >= 0 {
			val, given = val[i+1:], true
		}
	}
	switch {
	case o.value && (!given || len(val) == 0 && !a.quoted):
		return v.misused("the option " + o.name + " takes a value: " + o.name + "=…")
	case !o.value && given:
		return v.misused("the option " + o.name + " takes no value")
	}
	return o.set(r, val)
}

// unexpected refuses an argument that is neither an option nor a word that the verb takes.
func (v *verb) unexpected(a *arg) *Error {
	if v.value == valuePayload || v.value == valueMaybe { // the argument may be a password
		return v.misused("too many arguments; the secret follows the line as :len bytes")
	}
	name := a.val
	if a.key != nil {
		name = a.key
	} else if i := bytes.IndexByte(name, '='); i >= 0 && !a.quoted {
		name = name[:i]
	}
	msg := "unknown option " + errText(name)
	if v.value == valueAny {
		msg += " (the last argument is the value: quote it if it has spaces)"
	}
	return v.misused(msg)
}

// explain adds the form of the verb to an error marked with misuse.
func (v *verb) explain(err *Error) *Error {
	if err.misuse {
		return v.misused(err.Msg)
	}
	return err
}

// misused returns a syntax error that shows the form of the verb.
func (v *verb) misused(why string) *Error {
	return syntaxError(why + "; the form is " + v.form)
}

// verbOf returns the verb that an argument names, or 0. A quoted string names no verb.
func verbOf(a *arg) Verb {
	if a.quoted {
		return 0
	}
	return findVerb(a.val)
}

func unknownVerb(a *arg) *Error {
	return &Error{Code: znode.ErrUnknown, Op: -1, Msg: "unknown verb " + errText(a.val) + ": try HELP"}
}

// foldEqual compares without regard to the case of ASCII letters. name is from our tables.
func foldEqual(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(name[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// parseUint parses decimal digits.
func parseUint(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// parseHex parses 0x and hex digits.
func parseHex(b []byte) (uint64, bool) {
	if len(b) < 3 || len(b) > 18 || b[0] != '0' || lower(b[1]) != 'x' {
		return 0, false
	}
	var n uint64
	for _, c := range b[2:] {
		d := unhex(c)
		if d < 0 {
			return 0, false
		}
		n = n<<4 | uint64(d)
	}
	return n, true
}

// durationUnits are the units of a duration, in milliseconds.
var durationUnits = []struct {
	name string
	ms   uint64
}{{"ms", 1}, {"s", 1000}, {"m", 60_000}, {"h", 3_600_000}, {"d", 86_400_000}}

// parseDuration parses a whole number and a unit: 250ms, 30s, 5m, 2h, 1d.
func parseDuration(b []byte) (ms int64, ok bool) {
	digits := 0
	for digits < len(b) && '0' <= b[digits] && b[digits] <= '9' {
		digits++
	}
	n, ok := parseUint(b[:digits])
	if !ok {
		return 0, false
	}
	for _, u := range durationUnits {
		if string(b[digits:]) == u.name {
			if n > math.MaxInt64/u.ms {
				return 0, false
			}
			return int64(n * u.ms), true
		}
	}
	return 0, false
}

func setVersion(r *Request, val []byte) *Error {
	digits, negative := bytes.CutPrefix(val, []byte{'-'})
	n, ok := parseUint(digits)
	if !ok || n > math.MaxInt32+1 || n == math.MaxInt32+1 && !negative {
		return syntaxError("v=" + errText(val) + ": a version is a 32-bit number")
	}
	if negative {
		n = -n
	}
	r.Version = int32(n)
	return nil
}

// setCount makes an option whose value is a number from 1.
func setCount(name string, field func(*Request) *int32) option {
	return option{name, true, func(r *Request, val []byte) *Error {
		n, ok := parseUint(val)
		if !ok || n == 0 || n > math.MaxInt32 {
			return syntaxError(name + "=" + errText(val) + ": expected a number from 1 to " + strconv.Itoa(math.MaxInt32))
		}
		*field(r) = int32(n)
		return nil
	}}
}

// setZxid makes an option whose value is a zxid.
func setZxid(name string) option {
	return option{name, true, func(r *Request, val []byte) *Error {
		n, ok := parseHex(val)
		if !ok {
			n, ok = parseUint(val)
		}
		if !ok {
			return syntaxError(name + "=" + errText(val) + ": expected a zxid, such as 0x100000005")
		}
		r.Zxid, r.HasZxid = znode.Zxid(n), true
		return nil
	}}
}

// setFlag makes an option without a value.
func setFlag(name string, field func(*Request) *bool) option {
	return option{name, false, func(r *Request, _ []byte) *Error {
		*field(r) = true
		return nil
	}}
}

func setTTL(r *Request, val []byte) *Error {
	ms, ok := parseDuration(val)
	if !ok || ms < 1 || ms > znode.MaxTTLMS {
		return syntaxError("ttl=" + errText(val) + ": expected a number and ms, s, m, h or d, such as 30s, up to " +
			strconv.FormatInt(znode.MaxTTLMS, 10) + "ms")
	}
	r.TTLMS = ms
	return nil
}

func setACL(r *Request, val []byte) *Error {
	acl, err := znode.ParseACL(string(val))
	if err != nil {
		return &Error{Code: znode.ErrInvalidACL, Msg: err.Error(), Op: -1}
	}
	r.ACL = append(r.ACL, acl...)
	return nil
}

func setFormat(r *Request, val []byte) *Error {
	f, ok := FormatOf(string(val))
	if !ok {
		return syntaxError("format " + errText(val) + ": expected text, json or b64")
	}
	r.Format, r.HasFormat = f, true
	return nil
}

func setAfter(r *Request, val []byte) *Error {
	r.After = string(val)
	return nil
}

func setName(r *Request, val []byte) *Error {
	r.Name = string(val)
	return nil
}

func setSequential(r *Request, _ []byte) *Error {
	switch r.Mode {
	case znode.Container:
		return containerOnly()
	case znode.Ephemeral:
		r.Mode = znode.EphemeralSequential
	default:
		r.Mode = znode.PersistentSequential
	}
	return nil
}

func setEphemeral(r *Request, _ []byte) *Error {
	switch r.Mode {
	case znode.Container:
		return containerOnly()
	case znode.PersistentSequential:
		r.Mode = znode.EphemeralSequential
	default:
		r.Mode = znode.Ephemeral
	}
	return nil
}

func setContainer(r *Request, _ []byte) *Error {
	if r.Mode != znode.Persistent {
		return containerOnly()
	}
	r.Mode = znode.Container
	return nil
}

func containerOnly() *Error { return syntaxError("CONTAINER cannot be combined with SEQ or EPHEMERAL") }

func finishCreate(r *Request) *Error {
	switch {
	case r.TTLMS == 0:
	case r.Mode == znode.Container || r.Mode.Ephemeral():
		return syntaxError("ttl= cannot be combined with CONTAINER or EPHEMERAL")
	case r.Mode == znode.PersistentSequential:
		r.Mode = znode.PersistentSequentialTTL
	default:
		r.Mode = znode.PersistentTTL
	}
	return nil
}

func defaultListLimit(r *Request) *Error {
	if r.Limit == 0 {
		r.Limit = DefaultListLimit
	}
	return nil
}

func finishTree(r *Request) *Error {
	_ = defaultListLimit(r) // never fails
	if r.After != "" && (znode.CheckPath(r.After) != nil || !znode.Below(r.After, r.Path)) {
		return syntaxError("after=" + errText([]byte(r.After)) + ": expected the path of a znode below")
	}
	return nil
}

func setProto(_ *Request, val []byte) *Error {
	if n, ok := parseUint(val); !ok {
		return syntaxError("proto=" + errText(val) + ": expected a number")
	} else if n != protoVersion {
		return &Error{Code: znode.ErrUnimplemented, Msg: "this server supports only proto=" + strconv.Itoa(protoVersion), Op: -1}
	}
	return nil
}

// authWord parses a word of AUTH. A refused word may be a secret, so the error never repeats it.
func authWord(r *Request, i int, a *arg) *Error {
	switch {
	case i == 0 && string(a.val) != znode.SchemeDigest:
		return syntaxError("the only supported scheme is digest")
	case i == 1 && (len(a.val) == 0 || bytes.IndexByte(a.val, ':') >= 0):
		return syntaxError("a user name must have at least one character and no colon")
	case i == 1:
		r.Name = string(a.val)
	case i > 1:
		return syntaxError("too many arguments: the password follows the line, as :len bytes")
	}
	return nil
}
