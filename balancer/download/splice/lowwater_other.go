//go:build !linux

package splice

import "net"

// wakeAt does nothing here: bytes are not moved by the kernel.
func wakeAt(*net.TCPConn, int) {}
