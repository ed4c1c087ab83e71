package etcdkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// Grant makes a lease. A grant that is repeated leaves a lease with nothing on
// it, which ends by itself.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	resp, err := Hedged(ctx, c.WritePolicy(), func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return c.Etcd.Grant(ctx, int64(ttl/time.Second))
	})
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	return resp.ID, nil
}

// KeepLease renews a lease until ctx ends, or the lease is lost, or has not been
// renewed for as long as it lives.
func (c *Client) KeepLease(ctx context.Context, lease clientv3.LeaseID, ttl time.Duration) error {
	tick := time.NewTicker(ttl / 4)
	defer tick.Stop()
	for renewed := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := Hedged(ctx, ReadPolicy(ttl/2), func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
			return c.Etcd.KeepAliveOnce(ctx, lease)
		})
		switch {
		case err == nil:
			renewed = time.Now()
		case !errors.Is(err, ErrUnavailable) || time.Since(renewed) > ttl:
			return fmt.Errorf("renew lease: %w", err)
		}
	}
}

// Elect makes record what key holds, for as long as the lease lives, if nothing
// is there: the holder of a duty. It returns ErrConflict if another holds it.
func (c *Client) Elect(ctx context.Context, key string, record any, lease clientv3.LeaseID) (Result, error) {
	t := new(Txn)
	t.Must(key, 0)
	t.Put(key, record, lease)
	return c.Commit(WithoutIdem(ctx), t)
}
