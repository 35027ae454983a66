package gossip

import (
	"context"
	"errors"
	"log"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's own, but its outgoing streams end with a context, so that a join that
// waits for a dead host does not delay the end of Run.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

func (t transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

func (t transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: timeout}).DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &stream{c, context.AfterFunc(t.ctx, func() { _ = c.Close() })}, nil
}

type stream struct {
	net.Conn
	forget func() bool
}

func (s *stream) Close() error {
	s.forget()
	return s.Conn.Close()
}

// listen opens the port, for TCP and UDP; if it is 0, a port that is free for both.
func listen(ctx context.Context, at netip.AddrPort, logger *log.Logger) (transport, uint16, error) {
	for try := 0; ; try++ {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{at.Addr().String()}, BindPort: int(at.Port()), Logger: logger,
		})
		if err == nil {
			return transport{t, ctx}, uint16(t.GetAutoBindPort()), nil
		}
		if at.Port() != 0 || try == 10 {
			if l, other := net.Listen("tcp", at.String()); other == nil { // memberlist's error hides the cause
				_ = l.Close()
			} else if errors.Is(other, syscall.EADDRINUSE) {
				err = other
			}
			return transport{}, 0, err
		}
	}
}

// Host is the host that other nodes are told for this node: the host that was asked for, unchanged,
// or else the address that a Gossip listening on bind would advertise.
func Host(ctx context.Context, host string, bind netip.Addr) (string, error) {
	if host != "" {
		return host, nil
	}
	ip, err := advertised(ctx, "", bind, net.InterfaceAddrs)
	return ip.String(), err
}

// advertised is the address that other nodes are told: the one asked for, else the one that gossip
// listens on, else one of this host's addresses at which others might reach it, else 127.0.0.1.
func advertised(ctx context.Context, host string, bind netip.Addr, local func() ([]net.Addr, error)) (netip.Addr, error) {
	if host != "" {
		ips, err := resolve(ctx, host)
		if err != nil {
			return netip.Addr{}, err
		}
		return ips[0], nil
	}
	if !bind.IsUnspecified() {
		return bind, nil
	}
	best, rank := netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0
	addrs, err := local()
	if err != nil {
		return best, nil
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip, r := p.Addr().Unmap(), 0
		switch {
		case !ip.IsGlobalUnicast(), bind.Is4() && !ip.Is4():
		case ip.Is4() && ip.IsPrivate():
			r = 4
		case ip.Is4():
			r = 3
		case ip.IsPrivate():
			r = 2
		default:
			r = 1
		}
		if r > rank {
			best, rank = ip, r
		}
	}
	return best, nil
}

// resolve returns the IP addresses of a host, IPv4 first. memberlist would query name servers by
// itself, over TCP and for every name.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var four, six []netip.Addr
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			four = append(four, ip)
		} else {
			six = append(six, ip)
		}
	}
	return append(four, six...), nil
}

// resolveSeed returns the addresses of HOST[:PORT].
func resolveSeed(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		host, port = seed, strconv.Itoa(DefaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, &net.AddrError{Err: "invalid port", Addr: seed}
	}
	ips, err := resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		all = append(all, netip.AddrPortFrom(ip, uint16(n)))
	}
	return all, nil
}
