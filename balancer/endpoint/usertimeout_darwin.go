package endpoint

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rxtConnDropTime is TCP_RXT_CONNDROPTIME of macOS, in seconds.
const rxtConnDropTime = 0x80

// deadAfter has the kernel end a connection whose bytes are not acknowledged for so
// long: without it that takes many minutes.
func deadAfter(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		// A kernel that cannot is no reason not to connect.
		_ = c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, rxtConnDropTime, int(d.Seconds()))
		})
		return nil
	}
}
