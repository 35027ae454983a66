package peer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"time"
	"unicode/utf8"
)

const (
	labelDialer   = "coord peer 1 dialer"
	labelAcceptor = "coord peer 1 acceptor"
	labelBinding  = "EXPORTER-coord-peer"
)

// greeting is one side of one handshake.
type greeting struct {
	l      *Links
	nc     net.Conn
	ours   Hello
	theirs Hello
	sum    hash.Hash // over the TLS binding and everything said in both directions
	tls    *tls.ConnectionState
}

// greet performs the dialer's side. A *Refusal says what the other side, or this one, objects to.
func (l *Links) greet(nc net.Conn, purpose Purpose, expects uint64) (*wire, Hello, error) {
	g, err := l.greeting(nc, false)
	if err != nil {
		return nil, Hello{}, err
	}
	g.ours.Purpose, g.ours.Expects = purpose, expects
	keys, err := g.dial()
	if r, ok := errors.AsType[*Refusal](err); ok {
		r.Addr, r.Theirs = nc.RemoteAddr().String(), g.theirs
	}
	if err != nil {
		return nil, Hello{}, err
	}
	return newWire(g.nc, nc, keys[:8], keys[8:16]), g.theirs, nil
}

// answer performs the acceptor's side.
func (l *Links) answer(nc net.Conn) (*wire, Hello, error) {
	g, err := l.greeting(nc, true)
	if err != nil {
		return nil, Hello{}, err
	}
	keys, err := g.accept()
	if r, ok := errors.AsType[*Refusal](err); ok {
		r.Addr, r.Theirs = nc.RemoteAddr().String(), g.theirs
	}
	if err != nil {
		return nil, Hello{}, err
	}
	return newWire(g.nc, nc, keys[8:16], keys[:8]), g.theirs, nil
}

// greeting prepares a handshake, which has HandshakeTime in all; TLS comes first.
func (l *Links) greeting(nc net.Conn, acceptor bool) (*greeting, error) {
	if err := nc.SetDeadline(time.Now().Add(HandshakeTime)); err != nil {
		return nil, err
	}
	g := &greeting{l: l, nc: nc, ours: l.hello(), sum: sha256.New()}
	if l.cfg.TLS == nil {
		return g, nil
	}
	tc := tls.Client(nc, l.dialTLS)
	if acceptor {
		tc = tls.Server(nc, l.acceptTLS)
	}
	if err := tc.HandshakeContext(context.Background()); err != nil { // nc has a deadline
		return nil, fmt.Errorf("peer: TLS: %w", err)
	}
	cs := tc.ConnectionState()
	if len(cs.PeerCertificates) == 0 {
		return nil, errors.New("peer: TLS: the other side sent no certificate")
	}
	binding, err := cs.ExportKeyingMaterial(labelBinding, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("peer: TLS: %w", err)
	}
	g.sum.Write(binding)
	g.nc, g.tls = tc, &cs
	return g, nil
}

func (g *greeting) dial() ([]byte, error) {
	// By now ours has the purpose.
	if err := g.say(magic, stepHello, helloBody(&g.ours)); err != nil {
		return nil, err
	}
	step, body, err := g.hear(magic, stepHello, stepVerdict)
	if err != nil {
		return nil, err
	}
	if step == stepVerdict {
		r, ok := refusalOf(body)
		if !ok || r == nil {
			return nil, refuse(CodeMalformed, "welcome before hello")
		}
		return nil, r
	}
	var r *Refusal
	if g.theirs, r = parseHello(body); r != nil {
		return nil, r
	}
	switch {
	case g.theirs.Purpose != g.ours.Purpose:
		return nil, refuse(CodeMalformed, "it answered with a different purpose")
	case g.theirs.Lowest != g.theirs.Highest || g.theirs.Lowest != version:
		return nil, refuse(CodeVersion, "it chose versions %d to %d, which were not offered", g.theirs.Lowest, g.theirs.Highest)
	case g.theirs.nonce == g.ours.nonce:
		return nil, refuse(CodeMalformed, "it repeated this node's nonce")
	}
	if r := g.theirs.atOnce(&g.ours); r != nil {
		return nil, r
	}
	t := g.sum.Sum(nil)
	// State the position anew: the first one may be old by now, and the acceptor compares this one
	// with what it knew when it sent its hello.
	g.ours.Index, g.ours.Term = g.l.cfg.Position()
	proof := positionBytes(g.ours.Index, g.ours.Term)
	proof = append(proof, g.mac(labelDialer, t, proof)...)
	if err := g.say("", stepProof, proof); err != nil {
		return nil, err
	}
	_, body, err = g.hear("", stepVerdict)
	if err != nil {
		return nil, err
	}
	r, ok := refusalOf(body)
	if !ok {
		return nil, refuse(CodeMalformed, "malformed verdict of %d bytes", len(body))
	}
	said, mac := body[:len(body)-macLen], body[len(body)-macLen:]
	good := hmac.Equal(mac, g.mac(labelAcceptor, t, proof, said))
	if r != nil {
		r.Proven = good
		return nil, r
	}
	if !good {
		return nil, refuse(CodeProof, "its proof is wrong: check that both nodes have the same secret")
	}
	if r := g.judge(); r != nil {
		return nil, r
	}
	return mac, g.nc.SetDeadline(time.Time{})
}

func (g *greeting) accept() ([]byte, error) {
	_, body, err := g.hear(magic, stepHello)
	if err != nil {
		return nil, err
	}
	var r *Refusal
	if g.theirs, r = parseHello(body); r == nil {
		g.ours.Purpose, g.ours.Expects = g.theirs.Purpose, g.theirs.Node
		r = g.theirs.atOnce(&g.ours)
	}
	if r != nil {
		_ = g.say(magic, stepVerdict, verdict(r, nil))
		return nil, r
	}
	// Asked before the hello, because the dialer states where its log ends after it.
	floor, floorTerm := g.l.floor(&g.theirs)
	if err := g.say(magic, stepHello, helloBody(&g.ours)); err != nil {
		return nil, err
	}
	t := g.sum.Sum(nil)
	_, proof, err := g.hear("", stepProof)
	if err != nil {
		return nil, err
	}
	if len(proof) != proofLen || !hmac.Equal(proof[16:], g.mac(labelDialer, t, proof[:16])) {
		r := refuse(CodeProof, "the proof is wrong: check that both nodes have the same secret")
		_ = g.say("", stepVerdict, verdict(r, nil))
		return nil, r
	}
	g.theirs.Index, g.theirs.Term = binary.BigEndian.Uint64(proof), binary.BigEndian.Uint64(proof[8:])
	prove := func(said []byte) []byte { return g.mac(labelAcceptor, t, proof, said) }
	if r = g.judge(); r == nil && g.theirs.Purpose != purposeRequest {
		r = g.l.admit(g.theirs, floor, floorTerm)
	}
	if r != nil {
		_ = g.say("", stepVerdict, verdict(r, prove))
		return nil, r
	}
	welcome := verdict(nil, prove)
	if err := g.say("", stepVerdict, welcome); err != nil {
		return nil, err
	}
	return welcome[2:], g.nc.SetDeadline(time.Time{})
}

// judge checks the other side once it has proved the secret.
func (g *greeting) judge() *Refusal {
	r := g.theirs.proven(&g.ours)
	if r == nil && g.tls != nil {
		if err := g.l.cfg.Certified(*g.tls, g.theirs); err != nil {
			r = refuse(CodeCertificate, "%v", err)
		}
	}
	if r != nil {
		r.Proven = true
	}
	return r
}

func (g *greeting) mac(label string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, g.l.cfg.Secret)
	m.Write([]byte(label))
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// verdict returns the body of a verdict; a nil r is a welcome.
func verdict(r *Refusal, prove func(said []byte) []byte) []byte {
	b := make([]byte, 2, 2+textBytes+macLen)
	if r != nil {
		binary.BigEndian.PutUint16(b, uint16(r.Code))
		b = append(b, clip(r.Text)...)
	}
	if prove == nil {
		return append(b, make([]byte, macLen)...)
	}
	return append(b, prove(b)...)
}

// clip shortens a text to textBytes, without cutting a character.
func clip(s string) string {
	if len(s) <= textBytes {
		return s
	}
	s = s[:textBytes]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n > 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s
}

// say sends a step in one write.
func (g *greeting) say(magic string, step byte, body []byte) error {
	b := append([]byte(magic), step)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, body...)
	g.sum.Write(b)
	_, err := g.nc.Write(b)
	return err
}

// hear reads a step of one of these kinds, and not a byte more.
func (g *greeting) hear(magic string, steps ...byte) (byte, []byte, error) {
	b := make([]byte, len(magic)+3, len(magic)+3+maxStep)
	if _, err := io.ReadFull(g.nc, b[:len(magic)]); err != nil {
		return 0, nil, err
	}
	if string(b[:len(magic)]) != magic {
		return 0, nil, errNoMagic
	}
	head := b[len(magic):]
	if _, err := io.ReadFull(g.nc, head); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(head[1:]))
	if n > maxStep {
		return 0, nil, refuse(CodeMalformed, "handshake step of %d bytes is too long", n)
	}
	at := len(b)
	b = b[:at+n]
	if _, err := io.ReadFull(g.nc, b[at:]); err != nil {
		return 0, nil, err
	}
	g.sum.Write(b)
	for _, s := range steps {
		if s == head[0] {
			return s, b[at:], nil
		}
	}
	return 0, nil, refuse(CodeMalformed, "unexpected handshake step %d", head[0])
}

var errNoMagic = errors.New("peer: the other side is not a coord peer")

// hello returns what this node says of itself now.
func (l *Links) hello() Hello {
	l.mu.Lock()
	self := l.mu.self
	l.mu.Unlock()
	h := Hello{Identity: self, ClusterName: l.cfg.ClusterName, HasSecret: len(l.cfg.Secret) > 0, Lowest: version, Highest: version}
	h.Index, h.Term = l.cfg.Position()
	_, _ = rand.Read(h.nonce[:]) // never fails
	return h
}
