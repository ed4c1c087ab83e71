package state

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// SocketEnv moves the status socket.
const SocketEnv = "ANKA_AGENT_SOCKET"

// maxSocketPath is what sockaddr_un holds on macOS, less its final zero.
const maxSocketPath = 103

// Socket is the path of the agent's status socket.
func (d Dir) Socket() string {
	if p := os.Getenv(SocketEnv); p != "" {
		return p
	}
	p := d.path("run", "agent.sock")
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	if len(p) <= maxSocketPath {
		return p
	}
	// Too deep for a socket's address: the same short name for the same directory.
	sum := sha256.Sum256([]byte(p))
	return filepath.Join(os.TempDir(), "ankacluster-"+hex.EncodeToString(sum[:6])+".sock")
}
