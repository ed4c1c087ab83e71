//go:build !linux

package balancer

import "net"

// wakeAt does nothing here: bytes are not moved by the kernel.
func wakeAt(*net.TCPConn, int) {}
