package cloudstore

import (
	"context"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// FillMACs refills the pool. Addresses in use stay so.
func (s *Store) FillMACs(ctx context.Context) error { return s.setMACPool(ctx, false) }

// PurgeMACs empties the pool. Addresses in use stay so.
func (s *Store) PurgeMACs(ctx context.Context) error { return s.setMACPool(ctx, true) }

func (s *Store) setMACPool(ctx context.Context, purged bool) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.SetMACPool(purged)
	})
}
