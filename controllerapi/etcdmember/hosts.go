package etcdmember

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Host is one machine of a cluster: a name or IP address, and the port on which
// its etcd talks to its peers.
type Host struct {
	Name     string
	PeerPort int
}

// String returns the host as it is written in --cluster.
func (h Host) String() string {
	if h.PeerPort == DefaultPeerPort {
		return h.Name
	}
	return h.peerAddr()
}

func (h Host) peerAddr() string { return net.JoinHostPort(h.Name, strconv.Itoa(h.PeerPort)) }

func (h Host) peerURL(tls bool) string { return scheme(tls) + "://" + h.peerAddr() }

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

// ParseHost reads HOST or HOST:PEERPORT.
func ParseHost(s string) (Host, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Host{}, fmt.Errorf("an entry is empty; a host is HOST or HOST:PEERPORT")
	}
	if strings.Contains(s, "/") {
		return Host{}, fmt.Errorf("%q is not a host: write HOST or HOST:PEERPORT, without http://", s)
	}
	h := Host{Name: s, PeerPort: DefaultPeerPort}
	if _, err := netip.ParseAddr(s); err != nil { // else a bare IPv6 address looks like host:port
		if name, port, err := net.SplitHostPort(s); err == nil {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return Host{}, fmt.Errorf("%q: the port is not a number from 1 to 65535", s)
			}
			h = Host{Name: name, PeerPort: int(n)}
		}
	}
	h.Name = strings.ToLower(strings.Trim(h.Name, "[]"))
	if u, err := url.Parse(h.peerURL(false)); h.Name == "" || err != nil || u.Hostname() != h.Name {
		return Host{}, fmt.Errorf("%q is not a host name or an IP address", s)
	}
	return h, nil
}

// ParseHosts reads a comma-separated list of hosts. An empty list is no error.
func ParseHosts(list string) ([]Host, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	var hosts []Host
	for s := range strings.SplitSeq(list, ",") {
		h, err := ParseHost(s)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

func joinHosts(hosts []Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, h.String())
	}
	return strings.Join(names, ",")
}

func sortedHosts(hosts []Host) []Host {
	return slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return strings.Compare(a.peerAddr(), b.peerAddr()) })
}

// findSelf returns the entry of hosts that is this machine.
func findSelf(ctx context.Context, hosts []Host, self string) (Host, error) {
	if self != "" {
		return ParseHost(self)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return Host{}, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	mine := make(map[netip.Addr]bool)
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				mine[ip.Unmap()] = true
			}
		}
	}
	var found []Host
	for _, h := range hosts {
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h.Name)
		if err != nil {
			continue // a peer that is down may be unknown to the name service, too
		}
		if slices.ContainsFunc(ips, func(ip netip.Addr) bool { return mine[ip.Unmap()] }) {
			found = append(found, h)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Host{}, fmt.Errorf("none of --cluster %s is an address of this machine; say which one it is with --cluster-self HOST", joinHosts(hosts))
	default:
		return Host{}, fmt.Errorf("--cluster names this machine more than once (%s); say which one this process is with --cluster-self HOST:PEERPORT", joinHosts(found))
	}
}
