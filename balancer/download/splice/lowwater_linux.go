package splice

import (
	"net"

	"golang.org/x/sys/unix"
)

// wakeAt has a reader of conn woken by n bytes, or by the end.
func wakeAt(conn *net.TCPConn, n int) {
	c, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) })
}
