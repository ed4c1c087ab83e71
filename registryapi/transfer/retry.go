package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/backoff"
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
		wait := c.wait(failures, err)
		c.cfg.Log.Debug("transfer attempt failed", zap.String("what", what), zap.Int("attempt", failures), zap.Duration("wait", wait), zap.Error(err))
		if !backoff.Sleep(ctx, wait) {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// wait returns how long to wait after failures in a row: as the server asked, if it
// did.
func (c *Client) wait(failures int, err error) time.Duration {
	d := backoff.Pace{Min: c.cfg.MinBackoff, Max: c.cfg.MaxBackoff}.Next(failures - 1)
	if r, ok := errors.AsType[*ResponseError](err); ok {
		d = max(d, min(r.retryAfter, c.cfg.MaxBackoff))
	}
	return d
}
