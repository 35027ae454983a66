package znode

import (
	"crypto/sha1" //nolint:gosec // ZooKeeper's digest scheme is SHA-1
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Perms is a set of permissions, ZooKeeper's bits.
type Perms int32

// The permissions.
const (
	Read   Perms = 1
	Write  Perms = 2
	Create Perms = 4
	Delete Perms = 8
	Admin  Perms = 16
	All    Perms = 31
)

// permLetters are in the order in which zkCli prints them.
var permLetters = []struct {
	letter byte
	perm   Perms
}{{'c', Create}, {'d', Delete}, {'r', Read}, {'w', Write}, {'a', Admin}}

// String prints zkCli's letters, such as "cdrwa".
func (p Perms) String() string {
	var b []byte
	for _, l := range permLetters {
		if p&l.perm != 0 {
			b = append(b, l.letter)
		}
	}
	return string(b)
}

// ParsePerms reads zkCli's letters.
func ParsePerms(s string) (Perms, error) {
	var p Perms
next:
	for i := range len(s) {
		for _, l := range permLetters {
			if s[i] == l.letter {
				p |= l.perm
				continue next
			}
		}
		return 0, fmt.Errorf("%w: permission %q is not one of cdrwa", ErrInvalidACL, s[i])
	}
	if p == 0 {
		return 0, fmt.Errorf("%w: no permissions", ErrInvalidACL)
	}
	return p, nil
}

// Identity is an identity of a connection, or the one that an ACL entry names.
type Identity struct{ Scheme, ID string }

// The schemes that coord knows. "auth" in a request's ACL means the caller's own identities; "super" passes every
// check and appears in no ACL.
const (
	SchemeWorld  = "world"
	SchemeAuth   = "auth"
	SchemeDigest = "digest"
	SchemeIP     = "ip"
	SchemeUnix   = "unix" // the user of a unix socket's client: coord's own scheme
	SchemeSuper  = "super"
	anyone       = "anyone"
)

// Super is the identity that passes every check.
var Super = Identity{Scheme: SchemeSuper}

// IsSuper says whether one of the identities is super.
func IsSuper(ids []Identity) bool {
	for i := range ids {
		if ids[i].Scheme == SchemeSuper {
			return true
		}
	}
	return false
}

// ACLEntry grants permissions to an identity.
type ACLEntry struct {
	Perms Perms
	Identity
}

// ACL is a znode's access list: not inherited, never changed in place.
type ACL []ACLEntry

// OpenACL is world:anyone:cdrwa, what a create without an ACL gets.
var OpenACL = ACL{{All, Identity{SchemeWorld, anyone}}}

// ReadACL is world:anyone:r.
var ReadACL = ACL{{Read, Identity{SchemeWorld, anyone}}}

// Allows says whether a caller with these identities holds any of the needed
// permissions. An empty list allows everything, as in ZooKeeper.
func (a ACL) Allows(ids []Identity, need Perms) bool {
	if len(a) == 0 {
		return true
	}
	for i := range a {
		if a[i].Perms&need != 0 && a[i].Scheme == SchemeWorld && a[i].ID == anyone {
			return true
		}
	}
	if IsSuper(ids) {
		return true
	}
	for i := range a {
		if a[i].Perms&need == 0 {
			continue
		}
		for j := range ids {
			if ids[j].Scheme == a[i].Scheme && matches(ids[j], a[i].ID) {
				return true
			}
		}
	}
	return false
}

// matches says whether the caller's identity is the one that an entry of the
// same scheme names.
func matches(id Identity, entry string) bool {
	if id.Scheme != SchemeIP {
		return id.ID == entry
	}
	addr, err := netip.ParseAddr(id.ID)
	if err != nil {
		return false
	}
	prefix, err := parseIPEntry(entry)
	return err == nil && prefix.Contains(addr.Unmap())
}

// parseIPEntry reads ADDRESS or ADDRESS/BITS; host bits may be set.
func parseIPEntry(s string) (netip.Prefix, error) {
	text, bits, found := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil && !strings.Contains(text, ":") {
		addr, err = netip.ParseAddr(withoutZeros(text))
	}
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%w: ip:%s is not an address or address/bits", ErrInvalidACL, s)
	}
	n := addr.BitLen()
	if found {
		if n, err = strconv.Atoi(bits); err != nil || n < 0 || n > addr.BitLen() {
			return netip.Prefix{}, fmt.Errorf("%w: ip:%s: expected 0 to %d bits", ErrInvalidACL, s, addr.BitLen())
		}
	}
	if addr.Is4In6() && n >= 96 {
		addr, n = addr.Unmap(), n-96
	}
	return addr.Prefix(n)
}

// withoutZeros removes leading zeros from the numbers of an IPv4 address: 010.000.000.001 is
// 10.0.0.1 for ZooKeeper, and octal for others.
func withoutZeros(addr string) string {
	parts := strings.Split(addr, ".")
	for i, p := range parts {
		for len(p) > 1 && p[0] == '0' {
			p = p[1:]
		}
		parts[i] = p
	}
	return strings.Join(parts, ".")
}

// Null stands for a null string of ZooKeeper's protocol where its server accepts one. It is not a
// valid path or id, and not UTF-8, so no client can send it.
const Null = "\x00\xff"

// shortACL is the length up to which a list is searched linearly for duplicates.
const shortACL = 64

// Normalize turns the ACL of a request into the one that is stored: it removes duplicates, replaces
// "auth" by the caller's authenticated identities, and checks the syntax of each id. The error is an
// ErrInvalidACL with a reason or, for a null id where ZooKeeper would look at it, an ErrMarshalling.
func (a ACL) Normalize(ids []Identity) (ACL, error) {
	if len(a) == 0 {
		return nil, fmt.Errorf("%w: the list is empty", ErrInvalidACL)
	}
	out := make(ACL, 0, len(a))
	var there map[ACLEntry]struct{} // only for a long list: one that fills a frame would take seconds to search linearly
	if len(a) > shortACL {
		there = make(map[ACLEntry]struct{}, len(a))
	}
	add := func(e ACLEntry) {
		if there == nil {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
			return
		}
		if there[e] = struct{}{}; len(there) > len(out) {
			out = append(out, e)
		}
	}
	for _, e := range a {
		if e.ID == Null && (e.Scheme == SchemeWorld || e.Scheme == SchemeDigest || e.Scheme == SchemeIP) {
			return nil, fmt.Errorf("%w: %s without an id", ErrMarshalling, e.Scheme)
		}
		switch e.Scheme {
		case SchemeWorld:
			if e.ID != anyone {
				return nil, fmt.Errorf("%w: world:%s: only world:anyone exists", ErrInvalidACL, e.ID)
			}
			add(e)
		case SchemeAuth:
			found := false
			for _, id := range ids {
				if id.Scheme == SchemeDigest || id.Scheme == SchemeUnix {
					add(ACLEntry{e.Perms, id})
					found = true
				}
			}
			if !found {
				return nil, fmt.Errorf("%w: auth: the caller has not authenticated", ErrInvalidACL)
			}
		case SchemeDigest:
			// Java's split drops empty parts at the end.
			if strings.Count(strings.TrimRight(e.ID, ":"), ":") != 1 {
				return nil, fmt.Errorf("%w: digest:%s is not user:hash", ErrInvalidACL, e.ID)
			}
			add(e)
		case SchemeIP:
			if _, err := parseIPEntry(e.ID); err != nil {
				return nil, err
			}
			add(e)
		case SchemeUnix:
			if uid, err := strconv.ParseUint(e.ID, 10, 32); err != nil || strconv.FormatUint(uid, 10) != e.ID {
				return nil, fmt.Errorf("%w: unix:%s is not a numeric user id", ErrInvalidACL, e.ID)
			}
			add(e)
		default:
			return nil, fmt.Errorf("%w: unknown scheme %s", ErrInvalidACL, quoteShort(e.Scheme))
		}
	}
	return out, nil
}

// Redacted hides the hashes of digest entries, for readers without ADMIN.
func (a ACL) Redacted() ACL {
	out := slices.Clone(a)
	for i := range out {
		if out[i].Scheme == SchemeDigest {
			user, _, _ := strings.Cut(out[i].ID, ":")
			out[i].ID = user + ":x"
		}
	}
	return out
}

// Equal says whether two lists have the same entries in the same order.
func (a ACL) Equal(b ACL) bool { return slices.Equal(a, b) }

// String prints an entry as zkCli writes it: scheme:id:perms.
func (e ACLEntry) String() string { return e.Scheme + ":" + e.ID + ":" + e.Perms.String() }

// String prints the entries with commas between them.
func (a ACL) String() string {
	parts := make([]string, len(a))
	for i, e := range a {
		parts[i] = e.String()
	}
	return strings.Join(parts, ",")
}

// ParseACLEntry reads scheme:id:perms as zkCli writes it, such as
// world:anyone:cdrwa, digest:user:hash=:rw, ip:10.0.0.0/8:r or auth::cdrwa.
func ParseACLEntry(s string) (ACLEntry, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 {
		return ACLEntry{}, fmt.Errorf("%w: %s is not scheme:id:perms", ErrInvalidACL, quoteShort(s))
	}
	perms, err := ParsePerms(rest[i+1:])
	if err != nil {
		return ACLEntry{}, err
	}
	return ACLEntry{perms, Identity{scheme, rest[:i]}}, nil
}

// ParseACL reads entries with commas between them.
func ParseACL(s string) (ACL, error) {
	var a ACL
	for part := range strings.SplitSeq(s, ",") {
		e, err := ParseACLEntry(part)
		if err != nil {
			return nil, err
		}
		a = append(a, e)
	}
	return a, nil
}

// Digest is the identity of a digest credential "user:password": the user and
// the base64 of the credential's SHA-1 (ZooKeeper's
// DigestAuthenticationProvider.generateDigest).
func Digest(credential string) (Identity, error) {
	user, _, ok := strings.Cut(credential, ":")
	if !ok || user == "" {
		return Identity{}, fmt.Errorf("%w: a digest credential must be user:password", ErrAuthFailed)
	}
	return DigestOf(credential), nil
}

// DigestOf is the identity of any credential, by ZooKeeper's rule: everything before the first
// colon is the user, even if that is empty; without a colon all of it is the user.
func DigestOf(credential string) Identity {
	user, _, _ := strings.Cut(credential, ":")
	sum := sha1.Sum([]byte(credential)) //nolint:gosec // see the import
	return Identity{SchemeDigest, user + ":" + base64.StdEncoding.EncodeToString(sum[:])}
}

// IsDigest says whether hash, the part after the user in an identity made by Digest, may be that of a credential.
func IsDigest(hash string) bool {
	sum, err := base64.StdEncoding.DecodeString(hash)
	return err == nil && len(sum) == sha1.Size && hash == base64.StdEncoding.EncodeToString(sum)
}
