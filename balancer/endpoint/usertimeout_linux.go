package endpoint

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadAfter has the kernel end a connection whose bytes are not acknowledged for so
// long: without it that takes a quarter of an hour.
func deadAfter(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		// A kernel that cannot is no reason not to connect.
		_ = c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		return nil
	}
}
