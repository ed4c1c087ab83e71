package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// notePrefix is above the notes of what was removed. They are not below Prefix: no
// host follows them, they are asked for when something is not there.
const notePrefix = "/ankacluster/rnote/"

// A note goes noteFor to noteFor+noteLease after it was written: a repeat whose
// first answer was lost comes within minutes.
const (
	noteFor   = time.Hour
	noteLease = 10 * time.Minute // so long one lease takes new notes
)

// notes are in etcd, each in the transaction that did what it is about, so that a
// repeat hears the first answer at any host, and also when the first one died.
type notes struct {
	etcd *clientv3.Client
	wait time.Duration

	mu    sync.Mutex
	lease clientv3.LeaseID // guarded by mu
	since time.Time        // of the lease; guarded by mu
}

// op writes a note that goes by itself. Without a lease there is none.
func (s *notes) op(ctx context.Context, n content.Note) (op clientv3.Op, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == 0 || time.Since(s.since) > noteLease {
		ctx, cancel := context.WithTimeout(ctx, s.wait)
		defer cancel()
		resp, err := s.etcd.Grant(ctx, int64((noteFor + noteLease).Seconds()))
		if err != nil {
			return op, false
		}
		s.lease, s.since = resp.ID, time.Now()
	}
	return clientv3.OpPut(notePrefix+n.Name(), n.What, clientv3.WithLease(s.lease)), true
}

// leaseGone forgets a lease that etcd does not know: this machine slept for long, or
// etcd was restored.
func (s *notes) leaseGone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = 0
}

func (s *notes) put(ctx context.Context, n content.Note) {
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	if op, ok := s.op(ctx, n); ok {
		if _, err := s.etcd.Do(ctx, op); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.leaseGone() // without the note a repeat only hears less
		}
	}
}

// noting makes the note part of what is decided.
func noting(op clientv3.Op, d decision) decision {
	return func(r *repository, now time.Time) (*change, error) {
		ch, err := d(r, now)
		if ch != nil {
			ch.ops = append(ch.ops, op)
		}
		return ch, err
	}
}

// changeNoted is change, with a note of it.
func (c *Cluster) changeNoted(ctx context.Context, repo string, n content.Note, d decision) error {
	op, ok := c.notes.op(ctx, n)
	if !ok {
		return c.change(ctx, repo, d)
	}
	err := c.change(ctx, repo, noting(op, d))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) { // nothing was written
		c.notes.leaseGone()
		return c.changeNoted(ctx, repo, n, d)
	}
	return err
}

// Noted returns the word of a note, and whether there is one.
func (c *Cluster) Noted(ctx context.Context, n content.Note) (what string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait)
	defer cancel()
	resp, err := c.notes.etcd.Get(ctx, notePrefix+n.Name())
	if err != nil || len(resp.Kvs) == 0 {
		return "", false
	}
	return string(resp.Kvs[0].Value), true
}

// Forget removes a note.
func (c *Cluster) Forget(ctx context.Context, n content.Note) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait)
	defer cancel()
	_, _ = c.notes.etcd.Delete(ctx, notePrefix+n.Name()) // else it goes with its lease
}
