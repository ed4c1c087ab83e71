package etcdkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Renewer renews many leases over one stream: a stream for each renewal cost etcd
// more than everything else that ten thousand idle nodes ask for. It is for
// renewals that are not urgent: a member that does not answer is left after
// renewLimit.
type Renewer struct {
	etcd pb.LeaseClient
	log  *zap.Logger
	// renewed is told of every success, with the time before which it was asked for.
	renewed func(owner string, asked time.Time)

	wakeUp chan struct{} // capacity 1: unsent has grown
	mu     sync.Mutex
	asked  map[clientv3.LeaseID]*Renewal // guarded by mu; not answered yet
	unsent []clientv3.LeaseID            // guarded by mu; those of asked that this stream has not sent
	late   *time.Timer                   // guarded by mu; ends the stream, nil without one
}

// Renewal is a renewal under way, shared by all that ask for it before it is answered.
type Renewal struct {
	owner string
	begun time.Time
	done  chan struct{} // closed with the answer
	err   error         // the answer, valid once done is closed: nil or rpctypes.ErrLeaseNotFound
}

// renewLimit is how long a stream may be silent while answers are awaited. Then
// a new one is opened, which the client does at the next member.
const renewLimit = time.Second

var errSilent = errors.New("no renewal was answered in time")

// NewRenewer returns a Renewer that tells renewed of every success, with the owner
// of the lease and the time before which the renewal was asked for.
func NewRenewer(etcd pb.LeaseClient, log *zap.Logger, renewed func(owner string, asked time.Time)) *Renewer {
	return &Renewer{etcd: etcd, log: log, renewed: renewed, wakeUp: make(chan struct{}, 1), asked: make(map[clientv3.LeaseID]*Renewal)}
}

// Ask asks for the renewal of a lease and returns at once.
func (r *Renewer) Ask(owner string, lease clientv3.LeaseID) *Renewal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.asked[lease]; n != nil {
		return n
	}
	n := &Renewal{owner: owner, begun: time.Now(), done: make(chan struct{})}
	r.asked[lease] = n
	r.unsent = append(r.unsent, lease)
	select {
	case r.wakeUp <- struct{}{}:
	default:
	}
	return n
}

// Wait returns the answer: nil, rpctypes.ErrLeaseNotFound for a lease that is no
// more, or ErrUnavailable when none came while ctx lived.
func (n *Renewal) Wait(ctx context.Context) error {
	select {
	case <-n.done:
		return n.err
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ErrUnavailable, ctx.Err())
	}
}

// Run sends what is asked for until ctx ends.
func (r *Renewer) Run(ctx context.Context) {
	backoff := MinBackoff
	for {
		if !r.awaited() {
			select {
			case <-r.wakeUp:
			case <-ctx.Done():
				return
			}
		}
		answered, err := r.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		r.log.Info("stream of lease renewals begins anew", zap.Error(err), zap.Int("answered", answered))
		if answered > 0 {
			backoff = MinBackoff
		}
		backoff = SleepBackoff(ctx, backoff)
	}
}

func (r *Renewer) awaited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked) > 0
}

// stream sends everything that is asked for, also what an earlier stream has sent
// in vain, until it breaks. It returns how many answers came.
func (r *Renewer) stream(ctx context.Context) (answered int, err error) {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	stop := r.begin(func() { cancel(errSilent) })
	defer stop()
	stream, err := r.etcd.LeaseKeepAlive(ctx)
	if err != nil {
		return 0, err
	}
	var receiver sync.WaitGroup
	defer receiver.Wait()
	defer cancel(nil)
	receiver.Go(func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				cancel(err)
				return
			}
			answered++
			r.answer(clientv3.LeaseID(resp.ID), resp.TTL)
		}
	})
	for {
		for _, lease := range r.take() {
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)}) != nil {
				<-ctx.Done() // the receiver hears why
				receiver.Wait()
				return answered, context.Cause(ctx)
			}
		}
		select {
		case <-r.wakeUp:
		case <-ctx.Done():
			receiver.Wait()
			return answered, context.Cause(ctx)
		}
	}
}

// begin makes everything that is asked for unsent, for a new stream, which late
// ends when it is silent for too long.
func (r *Renewer) begin(late func()) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsent = slices.Collect(maps.Keys(r.asked))
	r.late = time.AfterFunc(renewLimit, late)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.late.Stop()
		r.late = nil
	}
}

// take returns what is to be sent. Silence counts from here when nothing else is
// awaited, and not at all when nothing is.
func (r *Renewer) take() []clientv3.LeaseID {
	r.mu.Lock()
	defer r.mu.Unlock()
	leases := r.unsent
	r.unsent = nil
	switch len(r.asked) {
	case 0:
		r.late.Stop()
	case len(leases):
		r.late.Reset(renewLimit)
	}
	return leases
}

// answer takes one answer. A lease that etcd does not know has no time to live.
func (r *Renewer) answer(lease clientv3.LeaseID, ttl int64) {
	r.mu.Lock()
	n := r.asked[lease]
	delete(r.asked, lease)
	switch {
	case r.late == nil:
	case len(r.asked) == 0:
		r.late.Stop()
	default:
		r.late.Reset(renewLimit)
	}
	r.mu.Unlock()
	if n == nil {
		return
	}
	if ttl <= 0 {
		n.err = rpctypes.ErrLeaseNotFound
	} else {
		r.renewed(n.owner, n.begun)
	}
	close(n.done)
}
