package launchd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kardianos/service"
)

// Run calls fn and returns its error, both under a service manager and in a
// terminal. SIGTERM and an interrupt cancel fn's context; a second one ends the
// process at once. An fn that returns because its context was cancelled was
// told to stop: Run then returns nil for context.Canceled, so that the process
// exits with 0 and is not started again.
func Run(ctx context.Context, name string, fn func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From here on the next signal has its default effect again.
	defer context.AfterFunc(ctx, stop)()

	p := &program{ctx: ctx, fn: fn, done: make(chan struct{})}
	svc, err := service.New(p, &service.Config{
		Name: name,
		// Run must end when fn ends, not when a signal comes: a loop that
		// failed has to become an exit status that restarts us.
		Option: service.KeyValue{"RunWait": func() { <-p.done }},
	})
	if err != nil && !errors.Is(err, service.ErrNoServiceSystemDetected) {
		return fmt.Errorf("run %s: %w", name, err)
	}
	if err != nil {
		// A container: no service manager, and none is needed.
		p.err = fn(ctx)
	} else if err := svc.Run(); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	if ctx.Err() != nil && errors.Is(p.err, context.Canceled) {
		return nil
	}
	return p.err
}

// program is fn in the shape that kardianos/service calls: Start must not
// block, Stop waits for what Start began.
type program struct {
	ctx  context.Context // Start has no context of its own
	fn   func(context.Context) error
	done chan struct{}
	err  error // set before done is closed
}

func (p *program) Start(service.Service) error {
	go func() { // waited for in Stop
		defer close(p.done)
		p.err = p.fn(p.ctx)
	}()
	return nil
}

func (p *program) Stop(service.Service) error {
	<-p.done
	return nil
}
