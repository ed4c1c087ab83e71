package cloudstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
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
		key:         dirIdem + hex.EncodeToString(sum[:16]),
		fingerprint: hex.EncodeToString(fp[:8]),
		encode:      encode,
	}
	return context.WithValue(ctx, idemCtx{}, idem), idem
}

func idemFrom(ctx context.Context) *Idem {
	idem, _ := ctx.Value(idemCtx{}).(*Idem)
	return idem
}

// withoutIdem is for changes that are not the request's own effect.
func withoutIdem(ctx context.Context) context.Context {
	return context.WithValue(ctx, idemCtx{}, (*Idem)(nil))
}

// Settle keeps the answer of a request that changed nothing, or returns *Replay
// with the first answer if there is one.
func (s *Store) Settle(ctx context.Context, answer any) error {
	idem := idemFrom(ctx)
	if idem == nil || idem.done {
		return nil
	}
	_, err := s.commit(ctx, &cloud.Change{Answer: answer})
	if errors.Is(err, errConflict) {
		return fmt.Errorf("%w: idempotency key neither absent nor present", ErrUnavailable)
	}
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
func Plan[T any](ctx context.Context, s *Store, plan *T) (again bool, err error) {
	idem := idemFrom(ctx)
	if idem == nil || idem.done {
		return false, nil
	}
	lease, err := s.idemLease(ctx)
	if err != nil {
		return false, err
	}
	data, err := json.Marshal(plan)
	if err != nil {
		return false, err
	}
	t := &txn{reads: []string{idem.key}}
	t.must(idem.key, 0)
	t.put(idem.key, idemRecord{Fingerprint: idem.fingerprint, Plan: data}, lease)
	res, err := s.commitTxn(withoutIdem(ctx), t, nil)
	if err == nil {
		idem.rev = res.rev
		return false, nil
	}
	kv := res.now[idem.key]
	if !errors.Is(err, errConflict) || kv == nil {
		return false, err
	}
	data, err = idem.replay(kv)
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(data, plan)
}

func (s *Store) idemRecord(ctx context.Context, idem *Idem, answer any) (string, []clientv3.OpOption, error) {
	lease, err := s.idemLease(ctx)
	if err != nil {
		return "", nil, err
	}
	data, err := json.Marshal(idemRecord{Fingerprint: idem.fingerprint, Answer: idem.encode(answer)})
	if err != nil {
		return "", nil, err
	}
	return string(data), []clientv3.OpOption{clientv3.WithLease(lease)}, nil
}

// idemLease returns the lease that keys of the present hang on.
func (s *Store) idemLease(ctx context.Context) (clientv3.LeaseID, error) {
	s.idemMu.Lock()
	defer s.idemMu.Unlock()
	if s.idemID != 0 && time.Since(s.idemSince) < idemBucket {
		return s.idemID, nil
	}
	resp, err := s.grant(ctx, idemLife+idemBucket)
	if err != nil {
		return 0, err
	}
	s.idemID, s.idemSince = resp, time.Now()
	return s.idemID, nil
}

func (s *Store) dropIdemLease() {
	s.idemMu.Lock()
	defer s.idemMu.Unlock()
	s.idemID = 0
}

// grant makes a lease. A grant that is repeated leaves a lease with nothing on
// it, which ends by itself.
func (s *Store) grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	resp, err := hedged(ctx, s.writePolicy(), func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return s.etcd.Grant(ctx, int64(ttl/time.Second))
	})
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	return resp.ID, nil
}
