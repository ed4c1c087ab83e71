package cloudstore

import (
	"context"
	"encoding/json"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
)

// What callers of a Store need of etcdkit.
type (
	Idem   = etcdkit.Idem
	Replay = etcdkit.Replay
)

// Errors of etcd.
var (
	ErrKeyReused    = etcdkit.ErrKeyReused
	ErrNoSpace      = etcdkit.ErrNoSpace
	ErrOtherHistory = etcdkit.ErrOtherHistory
	ErrUnavailable  = etcdkit.ErrUnavailable
)

// WithIdem is etcdkit.WithIdem.
func WithIdem(ctx context.Context, key string, request []byte, encode func(answer any) json.RawMessage) (context.Context, *Idem) {
	return etcdkit.WithIdem(ctx, key, request, encode)
}

// Plan is etcdkit.Plan on the Store's etcd.
func Plan[T any](ctx context.Context, s *Store, plan *T) (again bool, err error) {
	return etcdkit.Plan(ctx, s.kit, plan)
}

// Kept returns *Replay if there is an answer under the request's idempotency key.
func (s *Store) Kept(ctx context.Context) error { return s.kit.Kept(ctx) }

// Settle keeps the answer of a request that changed nothing, or returns *Replay
// with the first answer if there is one.
func (s *Store) Settle(ctx context.Context, answer any) error { return s.kit.Settle(ctx, answer) }
