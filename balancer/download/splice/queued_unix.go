//go:build unix

package splice

import (
	"net"

	"golang.org/x/sys/unix"
)

// queued reports whether bytes of the peer wait to be read from conn.
func queued(conn *net.TCPConn) bool {
	c, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	waiting := 0
	_ = c.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), inputQueue) })
	return waiting > 0
}
