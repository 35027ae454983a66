package peer

import "fmt"

// Code says why a node was refused. The numbers are fixed for ever.
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
	// Ours: this node refused the other one. Else the other way round.
	Ours bool
	// Proven: the other side has proved the secret (which may be none). What is not proven is a hint.
	Proven bool
	Addr   string
	Theirs Hello // of what was understood of it
}

func (r *Refusal) Error() string {
	who := "refused by " + r.Addr
	if r.Ours {
		who = "refused " + r.Addr
	}
	return fmt.Sprintf("peer: %s: %s: %s", who, r.Code, r.Text)
}

// isEarly says whether this is what a node hears, or says, while it is becoming a member: the others dial it before
// it knows that it is one, and look for it where it may be before they know where it is. A member of another
// cluster in its place, which may have been given another node's disk, is no such thing.
func (r *Refusal) isEarly(cluster [16]byte) bool {
	blank := cluster == [16]byte{} || r.Theirs.Cluster == [16]byte{}
	return r.Proven && (r.Code == CodeID && (blank || cluster == r.Theirs.Cluster) || r.Code == CodeCluster && blank)
}

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...), Ours: true}
}
