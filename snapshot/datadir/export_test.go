package datadir

import "time"

// AsideSteps are the steps of a SetAside.
func (d *Dir) AsideSteps(now time.Time, reason string, next Identity) ([]func() error, error) {
	m, err := d.moving(now, reason, next)
	if err != nil {
		return nil, err
	}
	return m.steps(), nil
}

// ParseIdentity parses the bytes of an identity file.
var ParseIdentity = parseIdentity

// Encode is the reverse of ParseIdentity.
func (id Identity) Encode() []byte { return id.encode() }
