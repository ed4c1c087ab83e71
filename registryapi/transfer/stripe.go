package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	// perSource is how many requests a striped pull has under way at a registry:
	// while one waits for its first byte the other fills the line.
	perSource = 2
	// minSteal is the smallest rest of a piece that is worth splitting.
	minSteal = 256 << 10
	// stalled is when the rest of a piece is given to somebody else altogether.
	stalled = 2 * time.Second
)

// stripe is one blob being read from several registries. Workers take pieces in
// order, so that the hash can follow. When none is left, an idle worker takes
// half of what the slowest still has to fetch, or all of it if nothing moves
// there: the end does not wait for the slowest registry.
type stripe struct {
	p     *partial
	name  string
	meter *meter

	mu      sync.Mutex
	changed sync.Cond // somebody took, finished or gave back a piece
	todo    []extent  // sorted
	held    []*claim
	failed  error
}

// claim is a piece that a worker is fetching.
type claim struct {
	extent                 // as asked for
	ctx    context.Context // of the request; kept here because a thief ends it
	cancel context.CancelFunc

	at, to int64 // what is left; guarded by stripe.mu
	moved  time.Time
}

// errTaken ends a request whose remaining bytes somebody else fetches.
var errTaken = errors.New("the rest was taken over")

func fillStriped(ctx context.Context, sources []*Client, repo string, p *partial, name string, meter *meter) error {
	if err := p.scatter(); err != nil {
		return err
	}
	s := &stripe{p: p, name: name, meter: meter}
	s.changed.L = &s.mu
	piece := sources[0].cfg.Piece
	for _, gap := range p.missing() {
		for at := gap.From; at < gap.To; at += piece {
			s.todo = append(s.todo, extent{at, min(at+piece, gap.To)})
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(gctx, s.wake)
	defer stop()
	var workers sync.WaitGroup
	errs := make([]error, len(sources)*perSource)
	for i := range errs {
		workers.Add(1)
		g.Go(func() error {
			defer workers.Done()
			errs[i] = s.work(gctx, sources[i%len(sources)], repo)
			return nil // one registry's failure is not the end
		})
	}
	done := make(chan struct{})
	g.Go(func() error { workers.Wait(); close(done); return nil })
	g.Go(func() error { return s.follow(gctx, done) })
	if err := g.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.failed != nil {
		return s.failed
	}
	if len(p.missing()) > 0 {
		return fmt.Errorf("no registry could give all of blob %s: %w", p.desc.Digest, errors.Join(errs...))
	}
	for i, err := range errs {
		if err != nil { // the pull succeeded all the same; it was only slower
			c := sources[i%len(sources)]
			c.cfg.Log.Warn("registry left out of a striped pull", zap.String("endpoint", c.base), zap.Error(err))
		}
	}
	return p.advance()
}

// follow hashes behind the workers and wakes those that wait for a stall.
func (s *stripe) follow(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.p.advance(); err != nil {
			s.fail(err)
			return err
		}
		s.wake()
	}
}

func (s *stripe) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *stripe) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	s.changed.Broadcast()
}

// work fetches pieces from one registry until all are fetched, or until the
// registry fails too often.
func (s *stripe) work(ctx context.Context, c *Client, repo string) error {
	buf := make([]byte, copyBuffer)
	return c.persist(ctx, "get blob "+s.p.desc.Digest.String()+" from "+c.base, func() (bool, error) {
		gained := false
		for {
			claim := s.take(ctx)
			if claim == nil {
				return gained, nil
			}
			n, err := c.blobRange(claim.ctx, repo, s.p.desc, claim.From, claim.To, &pieceWriter{s, claim}, buf)
			taken := errors.Is(err, errTaken) || claim.ctx.Err() != nil
			s.giveBack(claim)
			gained = gained || n > 0
			if err != nil && !taken {
				return gained, err
			}
			if ctx.Err() != nil {
				return gained, context.Cause(ctx)
			}
		}
	})
}

// take returns the next piece, or nil when there is nothing left to do. It waits
// while others hold all that is left.
func (s *stripe) take(ctx context.Context) *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if ctx.Err() != nil || s.failed != nil || len(s.todo) == 0 && len(s.held) == 0 {
			return nil
		}
		var e extent
		if len(s.todo) > 0 {
			e, s.todo = s.todo[0], s.todo[1:]
		} else if e = s.stealLocked(time.Now()); e.From == e.To {
			s.changed.Wait()
			continue
		}
		cctx, cancel := context.WithCancel(ctx)
		c := &claim{extent: e, ctx: cctx, cancel: cancel, at: e.From, to: e.To, moved: time.Now()}
		s.held = append(s.held, c)
		return c
	}
}

// stealLocked takes from the claim with most left to fetch.
func (s *stripe) stealLocked(now time.Time) extent {
	var most *claim
	for _, c := range s.held {
		if c.at == c.to {
			continue
		}
		if now.Sub(c.moved) >= stalled {
			e := extent{c.at, c.to}
			c.to = c.at
			c.cancel()
			return e
		}
		if most == nil || c.to-c.at > most.to-most.at {
			most = c
		}
	}
	if most == nil || most.to-most.at < 2*minSteal {
		return extent{}
	}
	e := extent{most.at + (most.to-most.at)/2, most.to}
	most.to = e.From
	return e
}

// giveBack ends a claim; what it did not fetch is for others.
func (s *stripe) giveBack(c *claim) {
	c.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = slices.DeleteFunc(s.held, func(x *claim) bool { return x == c })
	if c.at < c.to {
		i, _ := slices.BinarySearchFunc(s.todo, c.at, func(e extent, at int64) int { return int(min(max(e.From-at, -1), 1)) })
		s.todo = slices.Insert(s.todo, i, extent{c.at, c.to})
	}
	s.changed.Broadcast()
}

// pieceWriter stores the bytes of one claim, as far as it is still its own.
type pieceWriter struct {
	s *stripe
	c *claim
}

func (w *pieceWriter) Write(b []byte) (int, error) {
	s, c := w.s, w.c
	s.mu.Lock()
	at := c.at
	n := min(int64(len(b)), c.to-c.at)
	c.at += n // before the write: nobody may take these any more
	c.moved = time.Now()
	s.mu.Unlock()
	if n > 0 {
		if err := s.p.writeAt(b[:n], at); err != nil {
			s.fail(err)
			return 0, err
		}
		s.meter.add(s.name, n, n)
	}
	if n < int64(len(b)) {
		return int(n), errTaken
	}
	return int(n), nil
}

var _ io.Writer = (*pieceWriter)(nil)
