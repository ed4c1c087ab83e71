package main

import (
	"net"
	"strings"
	"testing"
)

func TestNumbersOfTheLogAreReadable(t *testing.T) {
	t.Parallel()
	line := `{"level":"info","ts":"2026-01-02T03:04:05.000Z","msg":"pulled","bytes":5895489,"part":0.5}`
	if got := readable(line); !strings.HasSuffix(got, "pulled bytes=5895489 part=0.5") {
		t.Errorf("got %q", got)
	}
}

func TestPortAloneIsNoListenAddress(t *testing.T) {
	t.Parallel()
	_, err := net.Listen("tcp", "25001")
	if got, want := listenError("--controller-listen", "25001", err).Error(), "--controller-listen 25001 must be HOST:PORT, e.g. 127.0.0.1:25001"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
