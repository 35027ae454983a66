package text

import (
	"math"
	"strconv"

	"coord/tree/znode"
)

// The arguments of the verbs that watch, wait, lock and manage sessions.

// pick returns the index of a word in names, without regard to case.
func pick[T ~uint8](names []string, val []byte) (T, bool) {
	for i, name := range names {
		if name != "" && foldEqual(val, name) {
			return T(i), true
		}
	}
	return 0, false
}

// misuse returns a syntax error to which the form of the verb is added.
func misuse(why string) *Error {
	err := syntaxError(why)
	err.misuse = true
	return err
}

func unexpected(a *arg) *Error { return misuse("unexpected argument " + errText(a.val)) }

func watchWord(r *Request, i int, a *arg) *Error {
	kind, ok := pick[Watched](watchedNames[:], a.val)
	if !ok || a.quoted || i > 0 {
		return unexpected(a)
	}
	r.Kind = kind
	return nil
}

func finishWatch(r *Request) *Error {
	switch {
	case r.Recursive && r.Kind == WatchChildren:
		return syntaxError("children cannot be combined with recursive, which reports each znode below by itself")
	case r.Recursive:
		r.Persistent = true
	}
	return nil
}

func unwatchWord(r *Request, i int, a *arg) *Error {
	id, ok := parseUint(a.val)
	if !ok || i > 0 || id > math.MaxInt64 {
		return misuse("expected the id that WATCH returned")
	}
	r.ID = int64(id)
	return nil
}

func waitWord(r *Request, _ int, a *arg) *Error {
	c, ok := pick[Condition](conditionNames[:UntilValue], a.val)
	if !ok || a.quoted {
		return unexpected(a)
	}
	return setCondition(r, c)
}

func setWaitValue(r *Request, val []byte) *Error {
	r.Value = val
	return setCondition(r, UntilValue)
}

func setCondition(r *Request, c Condition) *Error {
	if r.Condition != NoCondition {
		return misuse("expected only one condition")
	}
	r.Condition = c
	return nil
}

func finishWait(r *Request) *Error {
	if r.Condition == NoCondition {
		return misuse("the condition is missing")
	}
	if !r.HasTimeout {
		r.TimeoutMS = DefaultWaitMS
	}
	return nil
}

// wait parses a duration of at most MaxWaitMS: a timeout, a hold or a session's ttl.
func wait(name string, val []byte) (int64, *Error) {
	ms, ok := parseDuration(val)
	if !ok || ms > MaxWaitMS {
		return 0, syntaxError(name + "=" + errText(val) + ": expected a number and ms, s, m, h or d, such as 30s, up to 24h")
	}
	return ms, nil
}

func setTimeout(r *Request, val []byte) (err *Error) {
	r.HasTimeout = true
	r.TimeoutMS, err = wait("timeout", val)
	return err
}

func setHold(r *Request, val []byte) (err *Error) {
	r.HasHold = true
	r.HoldMS, err = wait("hold", val)
	return err
}

func setLive(r *Request, val []byte) *Error {
	live, ok := pick[Live](liveNames[:], val)
	if !ok {
		return syntaxError("live=" + errText(val) + ": expected tcp or ping")
	}
	r.Live, r.HasLive = live, true
	return nil
}

func setSessionTTL(r *Request, val []byte) (err *Error) {
	r.TTLMS, err = wait("ttl", val)
	if err == nil && r.TTLMS == 0 {
		return syntaxError("a session's ttl must be at least 1ms")
	}
	return err
}

func setSession(r *Request, val []byte) *Error {
	id, ok := parseHex(val)
	if !ok || id == 0 {
		return syntaxError("expected a session id of 0x and hex digits, such as 0x1000000000001")
	}
	r.Session = int64(id)
	return nil
}

// sessionWord parses a word of SESSION. A refused word may be a password, so the error never
// repeats it.
func sessionWord(r *Request, i int, a *arg) *Error {
	switch {
	case i == 0 && !a.quoted:
		action, ok := pick[Action](actionNames[:], a.val)
		if !ok {
			return misuse("expected NEW, RESUME, DETACH, INFO or CLOSE")
		}
		r.Action = action
		return nil
	case i == 1 && (r.Action == ResumeSession || r.Action == CloseSession):
		return setSession(r, a.val)
	}
	return misuse("too many arguments")
}

func finishSession(r *Request) *Error {
	attaches := r.Action == NewSession || r.Action == ResumeSession
	switch {
	case (r.Value != nil) != (r.Action == ResumeSession):
		return misuse("RESUME needs the password as :len bytes, the other actions take no value")
	case r.Action == ResumeSession && r.Session == 0:
		return misuse("the id is missing")
	case !attaches && (r.TTLMS != 0 || r.HasLive), r.HasZxid && r.Action != ResumeSession,
		r.HasHold && !attaches && r.Action != DetachSession:
		return misuse("an option is not supported by this action")
	case attaches && r.TTLMS == 0:
		r.TTLMS = DefaultSessionMS
	case r.Action == DetachSession && !r.HasHold:
		r.HoldMS = DefaultDetachMS
	}
	return nil
}

// Duration returns a field with a duration in ms, in the protocol's spelling: 10s or 1500ms.
func Duration(key string, ms int64) Field { return Str(key, durationText(ms)) }

func durationText(ms int64) string {
	if ms%1000 == 0 {
		return strconv.FormatInt(ms/1000, 10) + "s"
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// Duration returns the value in ms of a field that Duration made, or 0 if there is none.
func (r *Reply) Duration(key string) int64 {
	ms, _ := parseDuration([]byte(r.Str(key)))
	return ms
}

// appendLive appends the arguments of the verbs of this file.
func appendLive(dst []byte, r *Request) []byte {
	switch r.Verb {
	case VerbWatch:
		dst = appendArg(dst, r.Path)
		if r.Kind != WatchData {
			dst = appendFlag(dst, r.Kind.String(), true)
		}
		dst = appendFlag(dst, "persistent", r.Persistent)
		dst = appendFlag(dst, "recursive", r.Recursive)
		dst = appendZxid(dst, "since", r)
	case VerbFollow:
		dst = appendArg(dst, r.Path)
		dst = appendFlag(dst, "recursive", r.Recursive)
		dst = appendZxid(dst, "since", r)
		dst = appendFlag(dst, "data", r.Data)
	case VerbUnwatch:
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, r.ID, 10)
	case VerbWait:
		dst = appendArg(dst, r.Path)
		dst = appendFlag(dst, r.Condition.String(), true)
		if r.Condition == UntilValue {
			dst = append(dst, '=')
			dst = appendQuoted(dst, r.Value)
		}
		dst = appendZxid(dst, "since", r)
		dst = appendTime(dst, "timeout", r.TimeoutMS, r.HasTimeout)
	case VerbLock:
		dst = appendArg(dst, r.Path)
		dst = appendTime(dst, "timeout", r.TimeoutMS, r.HasTimeout)
		dst = appendFlag(dst, "shared", r.Shared)
		dst = appendCount(dst, "slots", r.Slots)
	case VerbUnlock:
		dst = appendArg(dst, r.Path)
	case VerbSessions:
		dst = appendCount(dst, "limit", r.Limit)
		dst = appendID(dst, " after=", r.Session)
	case VerbSession:
		dst = appendFlag(dst, r.Action.String(), true)
		dst = appendID(dst, " ", r.Session)
		dst = appendTime(dst, "ttl", r.TTLMS, r.TTLMS != 0)
		dst = appendTime(dst, "hold", r.HoldMS, r.HasHold)
		if r.HasLive || r.Live != LiveTCP {
			dst = appendOption(dst, "live", r.Live.String())
		}
		dst = appendZxid(dst, "zxid", r)
		if r.Action == ResumeSession {
			return appendPayload(dst, r.Value, r.CRLF)
		}
	}
	return appendEOL(dst, r.CRLF)
}

func appendTime(dst []byte, name string, ms int64, given bool) []byte {
	if !given {
		return dst
	}
	dst = appendFlag(dst, name, true)
	dst = append(dst, '=')
	return append(dst, durationText(ms)...)
}

func appendID(dst []byte, before string, id int64) []byte {
	if id == 0 {
		return dst
	}
	dst = append(dst, before...)
	return append(dst, znode.Hex(uint64(id))...)
}
