package etcdkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ankacluster/ankacluster/internal/backoff"
)

// ErrUnavailable wraps what kept etcd from answering in time.
var ErrUnavailable = errors.New("etcd does not answer")

// ErrNoSpace is etcd's alarm that its database is full.
var ErrNoSpace = errors.New("etcd: database space exceeded")

const (
	// MinBackoff is the first wait of SleepBackoff, and MaxBackoff its longest.
	MinBackoff = 20 * time.Millisecond
	MaxBackoff = time.Second
	// callBackoff bounds the wait between two calls of one request: what follows
	// the end of an election is what its sender waits for.
	callBackoff = 200 * time.Millisecond
)

// Policy says how a call to etcd is repeated. A member that is paused keeps its
// connections, and the client spreads calls over all members, so a call that is
// late is sent again, to the next one, while the first is still awaited.
type Policy struct {
	total time.Duration // for everything
	// hedge is the time until another call is sent. It does not grow: what was
	// sent to a leader that has died is lost, and the first call after the
	// election is the one that counts.
	hedge time.Duration
	calls int // awaited at a time, at most
	// Pace, unless nil, stretches hedge while the calls that succeed take long:
	// repeats would only make a busy etcd busier.
	Pace *Pace
}

// ReadPolicy: reads are cheap, and an election takes half a second or more.
func ReadPolicy(total time.Duration) Policy {
	return Policy{total: total, hedge: 200 * time.Millisecond, calls: 4}
}

// WritePolicy: a write waits for a disk, and a repeat makes it busier.
func WritePolicy(total time.Duration) Policy {
	return Policy{total: total, hedge: 300 * time.Millisecond, calls: 6}
}

// Pace is how long calls that succeeded have taken of late. Its zero value is
// ready, and it is safe for concurrent use.
type Pace struct{ mean atomic.Int64 } // moving, in nanoseconds

// maxPace bounds how far hedges are put off.
const maxPace = time.Second

func (p *Pace) took(d time.Duration) {
	if p == nil {
		return
	}
	old := p.mean.Load()
	p.mean.Store(old + (int64(d)-old)/8) // a lost update is one sample less
}

func (p *Pace) stretch(hedge time.Duration) time.Duration {
	if p == nil {
		return hedge
	}
	return max(hedge, min(3*time.Duration(p.mean.Load()), maxPace))
}

// Hedged calls until one call succeeds, fails for good, or the time is over.
// Every call may have had its effect, whatever was returned for it.
func Hedged[T any](ctx context.Context, p Policy, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, p.total)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	type result struct {
		val  T
		err  error
		took time.Duration
	}
	results := make(chan result, p.calls) // one place for each call awaited
	awaited, pause, wait := 0, MinBackoff, p.Pace.stretch(p.hedge)
	launch := func() {
		awaited++
		wg.Go(func() {
			begun := time.Now()
			val, err := call(ctx)
			results <- result{val, err, time.Since(begun)}
		})
	}
	launch()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var zero T
	var last error
	for {
		select {
		case r := <-results:
			awaited--
			if r.err == nil {
				p.Pace.took(r.took)
				return r.val, nil
			}
			if err := Permanent(r.err); err != nil && ctx.Err() == nil {
				return zero, err
			}
			if ctx.Err() == nil {
				last = r.err
			}
			if awaited == 0 {
				timer.Reset(backoff.Jitter(pause))
				pause = min(2*pause, callBackoff)
			}
		case <-timer.C:
			if awaited < p.calls {
				launch()
			}
			timer.Reset(wait)
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return zero, fmt.Errorf("%w: %w", ErrUnavailable, last)
		}
	}
}

// Permanent returns what err means when a repeat would not help, or nil.
func Permanent(err error) error {
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	code := status.Code(err)
	var etcdErr rpctypes.EtcdError
	if errors.As(err, &etcdErr) {
		code = etcdErr.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Aborted, codes.Internal:
		return nil
	}
	// A member that lags behind the revision asked for will have it soon, and one
	// that is not leader, or too busy, passes too.
	for _, passing := range []error{rpctypes.ErrFutureRev, rpctypes.ErrNotLeader, rpctypes.ErrTooManyRequests} {
		if errors.Is(err, passing) {
			return nil
		}
	}
	return err
}

// SleepBackoff sleeps for about d, or until ctx ends, and returns the next wait.
func SleepBackoff(ctx context.Context, d time.Duration) time.Duration {
	backoff.Sleep(ctx, backoff.Jitter(d))
	return min(2*d, MaxBackoff)
}
