package attempt

import (
	"strings"
	"syscall"
	"testing"
)

func TestT5MacOSMessageNamesThePermission(t *testing.T) {
	if msg := localMessageFor("darwin", syscall.EHOSTUNREACH); !strings.Contains(msg, "Local Network") {
		t.Errorf("got %q", msg)
	}
}
