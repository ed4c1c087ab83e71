package cloudstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
)

// errConflict: what the change was decided on is no longer so. Decide again.
var errConflict = errors.New("state changed meanwhile")

// txn is one transaction in the making.
type txn struct {
	cmps []clientv3.Cmp
	ops  []clientv3.Op
	// reads are the keys that are read when the compares fail.
	reads []string
}

// must requires that key is still as it was at rev; 0 means absent.
func (t *txn) must(key string, rev int64) {
	if rev == 0 {
		t.cmps = append(t.cmps, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
	} else {
		t.cmps = append(t.cmps, clientv3.Compare(clientv3.ModRevision(key), "=", rev))
	}
}

// settled requires that no key below prefix was written after rev.
func (t *txn) settled(prefix string, rev int64) {
	t.cmps = append(t.cmps, clientv3.Compare(clientv3.ModRevision(prefix).WithPrefix(), "<", rev+1))
}

// put writes val as JSON, with a lease unless that is 0.
func (t *txn) put(key string, val any, lease clientv3.LeaseID) {
	data, err := json.Marshal(val)
	if err != nil {
		panic(fmt.Sprintf("cloudstore: record of %s does not encode: %v", key, err))
	}
	t.ops = append(t.ops, clientv3.OpPut(key, string(data), clientv3.WithLease(lease)))
}

func (t *txn) delete(key string) { t.ops = append(t.ops, clientv3.OpDelete(key)) }

// result of a transaction: its revision, or, with errConflict, that at which it
// did not apply, and what the keys in reads held then.
type result struct {
	rev int64
	now map[string]*mvccpb.KeyValue
}

// commit applies the change, or returns errConflict. A request that was answered
// under its idempotency key before returns *Replay.
func (s *Store) commit(ctx context.Context, c *cloud.Change) (result, error) {
	t := new(txn)
	for _, m := range c.Musts {
		t.must(key(m.Ref), m.Rev)
	}
	for _, m := range c.Settled {
		t.settled(dirs[m.Table], m.Rev)
	}
	for _, op := range c.Ops {
		if op.Record == nil {
			t.delete(key(op.Ref))
		} else {
			t.put(key(op.Ref), op.Record, clientv3.LeaseID(op.Lease))
		}
	}
	return s.commitTxn(ctx, t, c.Answer)
}

// commitTxn applies the transaction, together with the answer if the request has
// an idempotency key.
func (s *Store) commitTxn(ctx context.Context, t *txn, answer any) (result, error) {
	idem := idemFrom(ctx)
	ops, cmps := t.ops, t.cmps
	var els []clientv3.Op
	for _, key := range t.reads {
		els = append(els, clientv3.OpGet(key))
	}
	if idem != nil && !idem.done {
		first := clientv3.Compare(clientv3.CreateRevision(idem.key), "=", 0)
		if idem.rev != 0 {
			first = clientv3.Compare(clientv3.ModRevision(idem.key), "=", idem.rev)
		}
		cmps = append(cmps[:len(cmps):len(cmps)], first)
		rec, opts, err := s.idemRecord(ctx, idem, answer)
		if err != nil {
			return result{}, err
		}
		ops = append(ops[:len(ops):len(ops)], clientv3.OpPut(idem.key, rec, opts...))
		els = append(els, clientv3.OpGet(idem.key))
	}
	resp, err := hedged(ctx, s.writePolicy(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.etcd.Txn(ctx).If(cmps...).Then(ops...).Else(els...).Commit()
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) && idem != nil {
		s.dropIdemLease() // somebody revoked it; the caller decides anew
		return result{rev: s.Revision()}, errConflict
	}
	if err != nil {
		return result{}, err
	}
	if resp.Succeeded {
		if idem != nil {
			idem.done = true
		}
		return result{rev: resp.Header.Revision}, nil
	}
	res := result{rev: resp.Header.Revision, now: make(map[string]*mvccpb.KeyValue)}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().Kvs {
			res.now[string(kv.Key)] = kv
		}
	}
	if idem != nil && !idem.done {
		if kv := res.now[idem.key]; kv != nil {
			if _, err := idem.replay(kv); err != nil {
				return res, err
			}
		}
	}
	return res, errConflict
}

// get reads one key as it is now.
func (s *Store) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	resp, err := hedged(ctx, s.readPolicy(), func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.etcd.Get(ctx, key)
	})
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	return resp.Kvs[0], nil
}

// decide runs a decision on the view until its change is committed. A decision
// that fails, or finds nothing to do, on what may be old state is made again on
// fresh state before its word counts; certain says that it need not be. The
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
		if !errors.Is(err, errConflict) {
			return res.rev, err
		}
		if err := s.WaitRevision(ctx, res.rev); err != nil {
			return 0, err
		}
		// What was read at the conflict's revision is as fresh as it gets.
		fresh = true
		backoff = sleepBackoff(ctx, backoff)
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w: too many writers", ErrUnavailable)
		}
	}
}
