package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// renewer renews the leases of nodes over one stream for all of them: a stream
// for each renewal cost etcd more than everything else that ten thousand idle
// nodes ask for. It is for renewals that nobody hurries for: a member that does
// not answer is left after renewLimit.
type renewer struct {
	etcd pb.LeaseClient
	log  *zap.Logger
	// renewed is told of every success, with the time before which it was asked for.
	renewed func(id api.NodeID, asked time.Time)

	wakeUp chan struct{} // capacity 1: unsent has grown
	mu     sync.Mutex
	asked  map[clientv3.LeaseID]*renewal // guarded by mu; not answered yet
	unsent []clientv3.LeaseID            // guarded by mu; those of asked that this stream has not sent
	late   *time.Timer                   // guarded by mu; ends the stream, nil without one
}

// renewal is shared by all who ask for it before it is answered.
type renewal struct {
	node  api.NodeID
	begun time.Time
	done  chan struct{} // closed with the answer
	err   error         // the answer, valid once done is closed: nil or rpctypes.ErrLeaseNotFound
}

// renewLimit is how long a stream may be silent while answers are awaited. Then
// a new one is opened, which the client does at the next member.
const renewLimit = time.Second

var errSilent = errors.New("no renewal was answered in time")

func newRenewer(etcd pb.LeaseClient, log *zap.Logger, renewed func(api.NodeID, time.Time)) *renewer {
	return &renewer{etcd: etcd, log: log, renewed: renewed, wakeUp: make(chan struct{}, 1), asked: make(map[clientv3.LeaseID]*renewal)}
}

// ask asks for the renewal of a node's lease and returns at once.
func (r *renewer) ask(id api.NodeID, lease clientv3.LeaseID) *renewal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.asked[lease]; n != nil {
		return n
	}
	n := &renewal{node: id, begun: time.Now(), done: make(chan struct{})}
	r.asked[lease] = n
	r.unsent = append(r.unsent, lease)
	select {
	case r.wakeUp <- struct{}{}:
	default:
	}
	return n
}

// wait returns the answer: nil, rpctypes.ErrLeaseNotFound for a lease that is no
// more, or ErrUnavailable when none came while ctx lived.
func (n *renewal) wait(ctx context.Context) error {
	select {
	case <-n.done:
		return n.err
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", ErrUnavailable, ctx.Err())
	}
}

// run sends what is asked for until ctx ends.
func (r *renewer) run(ctx context.Context) {
	backoff := minBackoff
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
			backoff = minBackoff
		}
		backoff = sleepBackoff(ctx, backoff)
	}
}

func (r *renewer) awaited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked) > 0
}

// stream sends everything that is asked for, also what an earlier stream has sent
// in vain, until it breaks. It returns how many answers came.
func (r *renewer) stream(ctx context.Context) (answered int, err error) {
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
func (r *renewer) begin(late func()) (stop func()) {
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
func (r *renewer) take() []clientv3.LeaseID {
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
func (r *renewer) answer(lease clientv3.LeaseID, ttl int64) {
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
		r.renewed(n.node, n.begun)
	}
	close(n.done)
}
