package frontend

import (
	"crypto/subtle"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"coord/server/text"
	"coord/tree/znode"
)

// guest describes the remote end of a new connection.
type guest struct {
	ids      []znode.Identity
	addr     netip.Addr // invalid for unix sockets
	operator bool
	private  bool // nobody can eavesdrop
}

// identify determines the identity of a new connection, its address or the user of a unix socket,
// and whether that alone makes it an operator.
func (s *Server) identify(nc net.Conn) guest {
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		addr := a.AddrPort().Addr().Unmap().WithZone("")
		loopback := addr.IsLoopback()
		return guest{
			ids: []znode.Identity{{Scheme: znode.SchemeIP, ID: addr.String()}}, addr: addr,
			operator: loopback && s.cfg.SuperDigest == "", private: loopback,
		}
	case *net.UnixAddr:
		uid, ok := peerUID(nc)
		if !ok {
			return guest{private: true}
		}
		return guest{
			ids:      []znode.Identity{{Scheme: "unix", ID: strconv.Itoa(uid)}},
			operator: uid == 0 || uid == os.Geteuid(), private: true,
		}
	}
	return guest{}
}

// auth adds an identity to the connection, for the requests from here on.
func (c *textConn) auth(req *text.Request) {
	if !c.private {
		c.s.stats.authFailed.Add(1)
		c.replyError(req, znode.ErrAuthFailed, "passwords are not accepted over an unencrypted connection from another host")
		return
	}
	id, err := znode.Digest(req.Name + ":" + string(req.Value))
	clear(req.Value) // so that the password does not stay in the buffer
	switch {
	case err != nil:
		c.s.stats.authFailed.Add(1)
		c.replyError(req, znode.ErrAuthFailed, znode.ErrAuthFailed.Error())
	case !c.addUser(id):
		c.replyError(req, znode.ErrLimit, fmt.Sprintf("a connection may have at most %d users, each of at most %d bytes including the hash", MaxIdentities, MaxUserBytes))
	default:
		c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{text.Str(text.KeyUser, req.Name)}}, req.CRLF)
	}
}

// addUser adds an identity that the client has proved, for the requests from here on. It refuses if
// there are too many or the identity is too long, because identities are kept and travel with every
// txn. It takes mu.
func (c *conn) addUser(id znode.Identity) bool {
	if slices.Contains(c.ids, id) {
		return true
	}
	if c.users >= MaxIdentities || len(id.ID) > MaxUserBytes {
		c.s.stats.limitsReached.Add(1)
		return false
	}
	ids := append(slices.Clip(c.ids), id)
	if d := c.s.cfg.SuperDigest; d != "" && subtle.ConstantTimeCompare([]byte(id.ID), []byte(d)) == 1 {
		ids = append(ids, znode.Super)
		c.operator = true
	}
	c.mu.Lock() // for zkConn.Identities
	c.ids = ids
	c.mu.Unlock()
	c.users++
	return true
}
