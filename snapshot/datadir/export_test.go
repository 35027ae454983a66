package datadir

import "time"

// AsideSteps are those of a SetAside.
func (d *Dir) AsideSteps(now time.Time, reason string, next Identity) ([]func() error, error) {
	m, err := d.moving(now, reason, next)
	if err != nil {
		return nil, err
	}
	return m.steps(), nil
}

// ParseIdentity and Encode are an identity file's bytes.
var ParseIdentity = parseIdentity

// Encode is ParseIdentity's reverse.
func (id Identity) Encode() []byte { return id.encode() }
