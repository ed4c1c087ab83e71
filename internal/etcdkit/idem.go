package etcdkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

const (
	// idemLife is how long a key's answer is kept at least.
	idemLife = 24 * time.Hour
	// idemBucket is how long one lease collects keys; a lease a key would cost a
	// write of its own.
	idemBucket = 10 * time.Minute
)

// ErrKeyReused: the idempotency key was used for another request before.
var ErrKeyReused = errors.New("the idempotency key was used for another request")

// Idem makes one request's effect happen once. It belongs to one request.
type Idem struct {
	key         string
	fingerprint string
	done        bool  // our answer is the one that is kept
	rev         int64 // of the key when it holds our plan, else 0
	encode      func(answer any) json.RawMessage
}

// Replay is the error of a request whose first answer is known: give Answer
// again.
type Replay struct{ Answer json.RawMessage }

func (*Replay) Error() string { return "the request was answered before" }

type idemRecord struct {
	Fingerprint string          `json:"fingerprint"`
	Plan        json.RawMessage `json:"plan,omitempty"`
	Answer      json.RawMessage `json:"answer,omitempty"`
}

type idemCtx struct{}

// WithIdem returns a context under which a change is committed together with its
// answer, as encode makes it, unless there is an answer under key already.
// request identifies what is asked for: a key that comes back with something
// else is an error.
func WithIdem(ctx context.Context, key string, request []byte, encode func(answer any) json.RawMessage) (context.Context, *Idem) {
	sum := sha256.Sum256([]byte(key))
	fp := sha256.Sum256(request)
	idem := &Idem{
		key:         hex.EncodeToString(sum[:16]),
		fingerprint: hex.EncodeToString(fp[:8]),
		encode:      encode,
	}
	return context.WithValue(ctx, idemCtx{}, idem), idem
}

func idemFrom(ctx context.Context) *Idem {
	idem, _ := ctx.Value(idemCtx{}).(*Idem)
	return idem
}

// WithoutIdem is for changes that are not the request's own effect.
func WithoutIdem(ctx context.Context) context.Context {
	return context.WithValue(ctx, idemCtx{}, (*Idem)(nil))
}

// Settle keeps the answer of a request that changed nothing, or returns *Replay
// with the first answer if there is one.
func (c *Client) Settle(ctx context.Context, answer any) error {
	idem := idemFrom(ctx)
	if idem == nil || idem.done {
		return nil
	}
	_, err := c.Commit(ctx, &Txn{Answer: answer})
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: idempotency key neither absent nor present", ErrUnavailable)
	}
	return err
}

// Kept returns *Replay if there is an answer under the request's key: one that is
// refused may be the repeat of one that was not.
func (c *Client) Kept(ctx context.Context) error {
	idem := idemFrom(ctx)
	if idem == nil || idem.done {
		return nil
	}
	kv, err := c.Get(ctx, c.answers+idem.key)
	if err != nil || kv == nil {
		return err
	}
	_, err = idem.replay(kv)
	return err
}

// replay returns what the key's record means for this request: an answer, or nil
// when it has only been planned.
func (i *Idem) replay(kv *mvccpb.KeyValue) (plan json.RawMessage, err error) {
	var rec idemRecord
	if err := json.Unmarshal(kv.Value, &rec); err != nil {
		return nil, fmt.Errorf("read idempotency key: %w", err)
	}
	switch {
	case rec.Fingerprint != i.fingerprint:
		return nil, ErrKeyReused
	case len(rec.Answer) > 0:
		return nil, &Replay{Answer: rec.Answer}
	}
	i.rev = kv.ModRevision
	return rec.Plan, nil
}

// Plan notes what a request is going to do outside etcd before it is done, and
// reports whether it was planned before: then *plan is what was planned, and it
// may have been done. Without an idempotency key it does nothing.
func Plan[T any](ctx context.Context, c *Client, plan *T) (again bool, err error) {
	idem := idemFrom(ctx)
	if idem == nil || idem.done {
		return false, nil
	}
	lease, err := c.idemLease(ctx)
	if err != nil {
		return false, err
	}
	data, err := json.Marshal(plan)
	if err != nil {
		return false, err
	}
	key := c.answers + idem.key
	t := &Txn{reads: []string{key}}
	t.Must(key, 0)
	t.Put(key, idemRecord{Fingerprint: idem.fingerprint, Plan: data}, lease)
	res, err := c.Commit(WithoutIdem(ctx), t)
	if err == nil {
		idem.rev = res.Rev
		return false, nil
	}
	kv := res.now[key]
	if !errors.Is(err, ErrConflict) || kv == nil {
		return false, err
	}
	data, err = idem.replay(kv)
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(data, plan)
}

// keepAnswer is the write that keeps an answer.
func (c *Client) keepAnswer(ctx context.Context, idem *Idem, answer any) (clientv3.Op, error) {
	lease, err := c.idemLease(ctx)
	if err != nil {
		return clientv3.Op{}, err
	}
	data, err := json.Marshal(idemRecord{Fingerprint: idem.fingerprint, Answer: idem.encode(answer)})
	if err != nil {
		return clientv3.Op{}, err
	}
	return clientv3.OpPut(c.answers+idem.key, string(data), clientv3.WithLease(lease)), nil
}

// idemLease returns the lease that keys of the present hang on.
func (c *Client) idemLease(ctx context.Context) (clientv3.LeaseID, error) {
	c.idemMu.Lock()
	defer c.idemMu.Unlock()
	if c.idem != 0 && time.Since(c.since) < idemBucket {
		return c.idem, nil
	}
	lease, err := c.Grant(ctx, idemLife+idemBucket)
	if err != nil {
		return 0, err
	}
	c.idem, c.since = lease, time.Now()
	return lease, nil
}

func (c *Client) dropIdemLease() {
	c.idemMu.Lock()
	defer c.idemMu.Unlock()
	c.idem = 0
}
