package cloudstore

import (
	"context"
	"time"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
)

// ErrNoSpace is etcd's alarm that its database is full.
var ErrNoSpace = etcdkit.ErrNoSpace

const (
	minBackoff = etcdkit.MinBackoff
	maxBackoff = etcdkit.MaxBackoff
)

func readPolicy(total time.Duration) etcdkit.Policy { return etcdkit.ReadPolicy(total) }

func (s *Store) readPolicy() etcdkit.Policy {
	p := etcdkit.ReadPolicy(s.cfg.RequestTimeout)
	p.Pace = &s.reads
	return p
}

func (s *Store) writePolicy() etcdkit.Policy {
	p := etcdkit.WritePolicy(s.cfg.RequestTimeout)
	p.Pace = &s.writes
	return p
}

func hedged[T any](ctx context.Context, p etcdkit.Policy, call func(context.Context) (T, error)) (T, error) {
	return etcdkit.Hedged(ctx, p, call)
}

func sleepBackoff(ctx context.Context, d time.Duration) time.Duration {
	return etcdkit.SleepBackoff(ctx, d)
}
