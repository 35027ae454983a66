package peer

import "fmt"

// Code says why a node was refused. The numbers never change.
type Code uint16

const (
	CodeMalformed   Code = 1
	CodeVersion     Code = 2
	CodeName        Code = 3
	CodeSecret      Code = 4
	CodeProof       Code = 5
	CodeCluster     Code = 6
	CodeID          Code = 7
	CodeSelf        Code = 8
	CodeRemoved     Code = 9
	CodeUnknown     Code = 10
	CodeBoot        Code = 11
	CodeBehind      Code = 12
	CodeBusy        Code = 13
	CodeCertificate Code = 14
)

var codeNames = [...]string{
	"welcome", "malformed", "version", "name", "secret", "proof", "cluster", "id", "self", "removed", "unknown",
	"boot", "behind", "busy", "certificate",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// Refusal is a handshake that failed because of what one side said.
type Refusal struct {
	Code Code
	Text string
	// Ours: this node refused the other one; otherwise the other node refused this one.
	Ours bool
	// Proven: the other side has proved the secret (which may be empty). If not, the refusal is only
	// a hint.
	Proven bool
	Addr   string
	Theirs Hello // as far as it was understood
}

func (r *Refusal) Error() string {
	who := "refused by " + r.Addr
	if r.Ours {
		who = "refused " + r.Addr
	}
	return fmt.Sprintf("peer: %s: %s: %s", who, r.Code, r.Text)
}

// isEarly says whether the refusal is one that is normal while a node becomes a member: the others dial the node
// before it knows that it is one, and dial addresses where it may be before they know its address. A member of
// another cluster at that address, which may have been given another node's disk, is not such a case.
func (r *Refusal) isEarly(cluster [16]byte) bool {
	blank := cluster == [16]byte{} || r.Theirs.Cluster == [16]byte{}
	return r.Proven && (r.Code == CodeID && (blank || cluster == r.Theirs.Cluster) || r.Code == CodeCluster && blank)
}

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...), Ours: true}
}
