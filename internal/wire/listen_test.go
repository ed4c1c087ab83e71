package wire

import (
	"net"
	"strings"
	"testing"
)

func TestTakenPortIsNamedWithTheWayToItsOwner(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	_, err = net.Listen("tcp", addr)
	_, port, _ := net.SplitHostPort(addr)
	got := ListenError("--listen-addr", addr, err).Error()
	if want := "--listen-addr: cannot listen on " + addr + ": another process has that port; lsof -nP -iTCP:" + port + " -sTCP:LISTEN shows which"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = net.Listen("tcp", "192.0.2.1:80")
	if got := ListenError("--listen-addr", "192.0.2.1:80", err).Error(); strings.Contains(got, "another process") || !strings.HasPrefix(got, "--listen-addr: cannot listen on 192.0.2.1:80: ") {
		t.Errorf("got %q", got)
	}
}

func TestLoopbackHost(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{"127.0.0.1:80": "127.0.0.1", "[::1]:80": "::1", "localhost:1": "localhost", ":80": "", "0.0.0.0:80": "", "10.0.0.1:80": "", "x": ""} {
		if got := LoopbackHost(addr); got != want {
			t.Errorf("%s: got %q, want %q", addr, got, want)
		}
	}
}
