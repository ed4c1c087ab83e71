// Package nextround shares one round of work among all who ask for it before it
// begins. A call that comes while a round runs waits for the next one: what the running
// one sees may be older than the question.
package nextround

import (
	"context"
	"sync"
)

// Group is the rounds of each key. Its zero value is ready for use.
type Group[K comparable, T any] struct {
	mu      sync.Mutex
	next    map[K]*round[T] // guarded by mu; have not begun
	running map[K]*round[T] // guarded by mu
}

type round[T any] struct {
	done  chan struct{}
	value T // set before done is closed
}

// Do returns what a round of key returns that begins after the call. The first who
// asks runs it, with a context that does not end with the caller's, since others
// wait for it. The error is that of ctx.
func (g *Group[K, T]) Do(ctx context.Context, key K, run func(context.Context) T) (T, error) {
	r, before, mine := g.join(key)
	if !mine {
		select {
		case <-r.done:
			return r.value, nil
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
	if before != nil {
		<-before.done
	}
	g.begin(key, r)
	defer g.end(key, r)
	r.value = run(context.WithoutCancel(ctx))
	return r.value, nil
}

// join returns the next round, and for the one who is to run it the round that has
// to end before.
func (g *Group[K, T]) join(key K) (r, before *round[T], mine bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.next[key]; r != nil {
		return r, nil, false
	}
	if g.next == nil {
		g.next, g.running = make(map[K]*round[T]), make(map[K]*round[T])
	}
	r = &round[T]{done: make(chan struct{})}
	g.next[key] = r
	return r, g.running[key], true
}

func (g *Group[K, T]) begin(key K, r *round[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.next, key)
	g.running[key] = r
}

func (g *Group[K, T]) end(key K, r *round[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running[key] == r {
		delete(g.running, key)
	}
	close(r.done)
}
