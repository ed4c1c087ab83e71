package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// errIdle is why a request ends on which no byte moved for too long.
var errIdle = errors.New("no data for too long")

// watchdog cancels a request on which nothing moves. There is no total limit.
type watchdog struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

// watch returns a watchdog whose ctx ends idle after the last kick.
func watch(ctx context.Context, idle time.Duration) *watchdog {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{ctx: ctx, cancel: cancel, idle: idle}
	w.timer = time.AfterFunc(idle, func() { cancel(fmt.Errorf("%w (%s)", errIdle, idle)) })
	return w
}

func (w *watchdog) kick() { w.timer.Reset(w.idle) }

// patience changes the limit from now on.
func (w *watchdog) patience(d time.Duration) { w.idle = d; w.kick() }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain puts the reason of a cancelled request in place of "context canceled".
func (w *watchdog) explain(err error) error {
	if cause := context.Cause(w.ctx); cause != nil && errors.Is(cause, errIdle) {
		return cause
	}
	return err
}

type watchedBody struct {
	io.ReadCloser
	w *watchdog
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.w.kick()
	}
	if err != nil && err != io.EOF {
		err = b.w.explain(err)
	}
	return n, err
}

// persist calls try until it succeeds, fails for good, or has failed
// Config.Attempts times in a row without a byte gained. try says whether it
// gained any.
func (c *Client) persist(ctx context.Context, what string, try func() (gained bool, err error)) error {
	for failures := 0; ; {
		gained, err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		if gained {
			failures = 0
		}
		failures++
		if !mendable(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if failures >= c.cfg.Attempts {
			return fmt.Errorf("%s: gave up after %d attempts without progress: %w", what, failures, err)
		}
		wait := c.backoff(failures, err)
		c.cfg.Log.Debug("transfer attempt failed", zap.String("what", what), zap.Int("attempt", failures), zap.Duration("wait", wait), zap.Error(err))
		if err := sleep(ctx, wait); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// backoff doubles with every failure in a row and is spread by half, so that
// many nodes that lost one registry do not come back as one.
func (c *Client) backoff(failures int, err error) time.Duration {
	d := c.cfg.MaxBackoff
	if shift := failures - 1; shift < 20 {
		d = min(c.cfg.MinBackoff<<shift, c.cfg.MaxBackoff)
	}
	d = d/2 + rand.N(d/2+1)
	var r *ResponseError
	if errors.As(err, &r) && r.retryAfter > 0 {
		d = max(d, min(r.retryAfter, c.cfg.MaxBackoff))
	}
	return d
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
