package cloudstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func unconnectedStore(t *testing.T) *Store {
	t.Helper()
	cfg := DefaultConfig()
	cfg.ID = "test"
	s, err := New(cfg, clientv3.NewCtxClient(t.Context()), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNodesThatJoinTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := unconnectedStore(t)
		var places []func()
		for range maxJoins {
			admitted, err := s.admit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, admitted)
		}
		begun := time.Now()
		if _, err := s.admit(t.Context()); !errors.Is(err, ErrUnavailable) || time.Since(begun) != s.cfg.RequestTimeout {
			t.Errorf("one too many: %v after %v, want ErrUnavailable after %v", err, time.Since(begun), s.cfg.RequestTimeout)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.admit(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("a node that gave up: %v, want context.Canceled", err)
		}
		places[0]()
		places[0]() // is one place, however often it is given back
		if _, err := s.admit(t.Context()); err != nil {
			t.Errorf("with a place free again: %v", err)
		}
		if _, err := s.admit(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("one place given back, two taken: %v, want ErrUnavailable", err)
		}
	})
}
