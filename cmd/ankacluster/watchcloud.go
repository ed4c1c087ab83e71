package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// watchCloud shows what a stream tells, as it is at each moment.
func watchCloud[K ~string, T any](c *cli.Context, told iter.Seq2[map[K]T, error], show func(io.Writer, []T) error) error {
	ctx, done := context.WithCancel(c.Context)
	c.Context = ctx
	var mu sync.Mutex
	var now []T
	var trouble error
	first := make(chan struct{})
	begun := sync.OnceFunc(func() { close(first) })
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer begun()
		for all, err := range told {
			if ctx.Err() != nil || err == controllerapi.ErrUnauthorized {
				return err
			}
			mu.Lock()
			trouble = err
			if err == nil {
				now = slices.Collect(maps.Values(all))
			}
			mu.Unlock()
			begun()
		}
		return nil
	})
	g.Go(func() error {
		defer done()
		<-first
		return watch(c, func(out io.Writer) error {
			mu.Lock()
			defer mu.Unlock()
			if trouble != nil && !c.Bool("json") {
				fmt.Fprintln(out, termstyle.Of(out).Bad(fmt.Sprintf("%v; it is tried again", explainCloud(trouble))))
			}
			return show(out, now)
		})
	})
	return g.Wait()
}
