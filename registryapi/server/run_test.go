package server

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
)

// A server that cannot listen has begun nothing: Run returns with nothing left
// that looks after the store. The bubble fails for a goroutine that stays.
func TestRunThatCannotListenLeavesNothing(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := testConfig(t.TempDir())
	cfg.ListenAddr = ln.Addr().String()
	synctest.Test(t, func(t *testing.T) {
		srv, err := New(cfg, openStore(t, cfg.Root), nil)
		if err != nil {
			t.Fatal(err)
		}
		if srv.Run(context.Background()) == nil {
			t.Error("two servers listen on one address")
		}
	})
}
