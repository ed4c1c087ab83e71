package etcdkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
)

// ErrConflict: what the transaction was decided on is no longer so. Decide again.
var ErrConflict = errors.New("state changed meanwhile")

// Txn is one transaction in the making.
type Txn struct {
	// Answer is what the caller will be told; it is kept under the request's
	// idempotency key in the same transaction.
	Answer any

	cmps  []clientv3.Cmp
	ops   []clientv3.Op
	reads []string // keys that are read when the compares fail
}

// Must requires that key is still as it was at rev; 0 means absent.
func (t *Txn) Must(key string, rev int64) {
	if rev == 0 {
		t.cmps = append(t.cmps, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
	} else {
		t.cmps = append(t.cmps, clientv3.Compare(clientv3.ModRevision(key), "=", rev))
	}
}

// MustExist requires that there is something at key.
func (t *Txn) MustExist(key string) {
	t.cmps = append(t.cmps, clientv3.Compare(clientv3.CreateRevision(key), ">", 0))
}

// MustBeSettled requires that no key below prefix was written after rev.
func (t *Txn) MustBeSettled(prefix string, rev int64) {
	t.cmps = append(t.cmps, clientv3.Compare(clientv3.ModRevision(prefix).WithPrefix(), "<", rev+1))
}

// Put writes val as JSON, with a lease unless that is 0.
func (t *Txn) Put(key string, val any, lease clientv3.LeaseID) {
	data, err := json.Marshal(val)
	if err != nil {
		panic(fmt.Sprintf("etcdkit: record of %s does not encode: %v", key, err))
	}
	t.ops = append(t.ops, clientv3.OpPut(key, string(data), clientv3.WithLease(lease)))
}

// PutText writes a text as it is.
func (t *Txn) PutText(key, text string) { t.ops = append(t.ops, clientv3.OpPut(key, text)) }

// Delete deletes a key. It need not be there.
func (t *Txn) Delete(key string) { t.ops = append(t.ops, clientv3.OpDelete(key)) }

// Result of a transaction: its revision, or, with ErrConflict, that at which it
// did not apply.
type Result struct {
	Rev int64
	now map[string]*mvccpb.KeyValue // what the keys in reads held then
}

// Commit applies the transaction, or returns ErrConflict. Under a context of
// WithIdem the answer is kept with it; a request that was answered before returns
// *Replay.
func (c *Client) Commit(ctx context.Context, t *Txn) (Result, error) {
	idem := idemFrom(ctx)
	ops, cmps := t.ops, t.cmps
	var els []clientv3.Op
	for _, key := range t.reads {
		els = append(els, clientv3.OpGet(key))
	}
	if idem != nil && !idem.done {
		key := c.answers + idem.key
		first := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
		if idem.rev != 0 {
			first = clientv3.Compare(clientv3.ModRevision(key), "=", idem.rev)
		}
		cmps = append(cmps[:len(cmps):len(cmps)], first)
		keep, err := c.keepAnswer(ctx, idem, t.Answer)
		if err != nil {
			return Result{}, err
		}
		ops = append(ops[:len(ops):len(ops)], keep)
		els = append(els, clientv3.OpGet(key))
	}
	resp, err := Hedged(ctx, c.WritePolicy(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.Etcd.Txn(ctx).If(cmps...).Then(ops...).Else(els...).Commit()
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) && idem != nil {
		c.dropIdemLease() // it was revoked; the caller decides anew
		return Result{}, ErrConflict
	}
	if err != nil {
		return Result{}, err
	}
	if resp.Succeeded {
		if idem != nil {
			idem.done = true
		}
		return Result{Rev: resp.Header.Revision}, nil
	}
	res := Result{Rev: resp.Header.Revision, now: make(map[string]*mvccpb.KeyValue)}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().Kvs {
			res.now[string(kv.Key)] = kv
		}
	}
	if idem != nil && !idem.done {
		if kv := res.now[c.answers+idem.key]; kv != nil {
			if _, err := idem.replay(kv); err != nil {
				return res, err
			}
		}
	}
	return res, ErrConflict
}
