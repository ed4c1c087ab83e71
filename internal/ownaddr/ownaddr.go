// Package ownaddr finds out whether an address is this machine's own: a server
// that is named among those it passes requests to would call itself.
package ownaddr

import (
	"net"
	"net/netip"
	"net/url"
)

// Reaches reports whether a URL leads to a listener of this process on listen,
// which is IP:PORT, :PORT or NAME:PORT. Names are looked up; one that cannot be
// is no address of this machine.
func Reaches(rawURL, listen string) bool {
	u, err := url.Parse(rawURL)
	if err != nil {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host, at, err := net.SplitHostPort(listen)
	if err != nil || port != at || port == "0" {
		return false
	}
	bound := addresses(host)
	all := host == "" || len(bound) > 0 && bound[0].IsUnspecified()
	for _, a := range addresses(u.Hostname()) {
		if a.IsUnspecified() {
			a = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // what a dial of 0.0.0.0 reaches
		}
		if all && own(a) {
			return true
		}
		for _, b := range bound {
			if a == b {
				return true
			}
		}
	}
	return false
}

func addresses(host string) []netip.Addr {
	if host == "" {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	var out []netip.Addr
	names, _ := net.LookupHost(host) // without an answer there is no address
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// own reports whether a is loopback or an address of an interface.
func own(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, _ := net.InterfaceAddrs()
	for _, i := range all {
		if n, ok := i.(*net.IPNet); ok {
			if b, ok := netip.AddrFromSlice(n.IP); ok && b.Unmap() == a.WithZone("") {
				return true
			}
		}
	}
	return false
}
