package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/client/v3"
)

// commit applies the change, or returns etcdkit.ErrConflict. A request that was
// answered under its idempotency key before returns *Replay.
func (s *Store) commit(ctx context.Context, c *cloud.Change) (etcdkit.Result, error) {
	return s.kit.Commit(ctx, txnOf(c))
}

// txnOf returns the transaction that a change is.
func txnOf(c *cloud.Change) *etcdkit.Txn {
	t := &etcdkit.Txn{Answer: c.Answer}
	for _, m := range c.Musts {
		t.Must(key(m.Ref), m.Rev)
	}
	for _, m := range c.Settled {
		t.MustBeSettled(dirs[m.Table], m.Rev)
	}
	for _, op := range c.Ops {
		if op.Record == nil {
			t.Delete(key(op.Ref))
		} else {
			t.Put(key(op.Ref), op.Record, clientv3.LeaseID(op.Lease))
		}
	}
	return t
}

// decide runs a decision on the view until its change is committed. A decision
// that fails, or finds nothing to do, on what may be old state is made again on
// fresh state before its word counts; certain reports that it need not be. The
// decision is repeated after a change that may have had its effect, so it must
// recognize its own work.
func (s *Store) decide(ctx context.Context, decision func(v *cloud.View, now time.Time) (c *cloud.Change, certain bool, err error)) error {
	_, err := s.decideAt(ctx, decision)
	return err
}

// decideAt is decide that also returns the revision of the change, 0 for none.
func (s *Store) decideAt(ctx context.Context, decision func(v *cloud.View, now time.Time) (c *cloud.Change, certain bool, err error)) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	fresh, backoff := false, time.Millisecond
	for {
		var c *cloud.Change
		var certain bool
		var err error
		now := s.now()
		s.Read(func(v *cloud.View) { c, certain, err = decision(v, now) })
		if err != nil {
			if fresh || certain {
				return 0, cloud.IgnoreNoChange(err)
			}
			if err := s.Fresh(ctx); err != nil {
				return 0, err
			}
			fresh = true
			continue
		}
		res, err := s.commit(ctx, c)
		if !errors.Is(err, etcdkit.ErrConflict) {
			return res.Rev, err
		}
		if err := s.WaitRevision(ctx, res.Rev); err != nil {
			return 0, err
		}
		// What was read at the conflict's revision is as fresh as it gets.
		fresh = true
		backoff = etcdkit.SleepBackoff(ctx, backoff)
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w: too many writers", ErrUnavailable)
		}
	}
}
