package wire

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ListenError says which address could not be taken, by the name of its setting,
// and how to find who has it.
func ListenError(name, addr string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // the address is told already
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: cannot listen on %s: %w", name, addr, err)
	}
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Errorf("%s: cannot listen on %s: another process has that port; lsof -nP -iTCP:%s -sTCP:LISTEN shows which", name, addr, port)
}

// LoopbackHost returns the host of an address that only this machine reaches, and
// "" for any other: what stands beside a server that hides must hide, too.
func LoopbackHost(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return host
	}
	return ""
}
