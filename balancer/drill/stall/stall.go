// Package stall notices when this machine stands still, or gives the processor to
// others, so that promises of seconds are judged by the time in which it ran. What
// is measured stands still with it; nothing is measured twice for that.
package stall

import (
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// beat is how often a Watch looks whether it still gets the processor.
	beat = 5 * time.Millisecond
	// Noticed is the shortest stall that counts: twice the scheduler's own turns.
	Noticed = 10 * time.Millisecond
	// Harmful is the shortest stall that may make a request fail, or move traffic.
	Harmful = 40 * time.Millisecond
)

// Stall is a time in which this process did not get the processor although it
// was due to run.
type Stall struct{ From, To time.Time }

// List is stalls in order.
type List []Stall

// Watch looks out for stalls.
type Watch struct {
	mu    sync.Mutex
	list  List // guarded by mu
	done  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// Start begins to look out, until Stop.
func Start() *Watch {
	w := &Watch{done: make(chan struct{})}
	w.ended.Go(w.run)
	return w
}

// run notes each time that a beat is late. What the process does to itself is no
// stall: if it used the processor for half of that time, the machine ran.
func (w *Watch) run() {
	timer := time.NewTimer(beat)
	defer timer.Stop()
	for used, due := processTime(), time.Now().Add(beat); ; {
		select {
		case <-w.done:
			return
		case <-timer.C:
		}
		now, usedNow := time.Now(), processTime()
		if late := now.Sub(due); late >= Noticed && usedNow-used < late/2 {
			w.mu.Lock()
			w.list = append(w.list, Stall{due, now})
			w.mu.Unlock()
		}
		used, due = usedNow, now.Add(beat)
		timer.Reset(beat)
	}
}

// Seen returns the stalls up to now.
func (w *Watch) Seen() List {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// Stop ends the look-out and returns all stalls. It may be called again.
func (w *Watch) Stop() List {
	w.once.Do(func() { close(w.done) })
	w.ended.Wait()
	return w.Seen()
}

// processTime is how long this process has had the processor.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Stood returns how long the machine stood still between two moments.
func (l List) Stood(from, to time.Time) (sum time.Duration) {
	for _, x := range l {
		sum += max(0, Earlier(x.To, to).Sub(later(x.From, from)))
	}
	return sum
}

// Ran returns how long the machine ran between two moments.
func (l List) Ran(from, to time.Time) time.Duration { return to.Sub(from) - l.Stood(from, to) }

// Harm reports whether a harmful stall lies between two moments, or reaches into
// the time between them.
func (l List) Harm(from, to time.Time) bool {
	return slices.ContainsFunc(l, func(x Stall) bool {
		return x.To.Sub(x.From) >= Harmful && x.From.Before(to) && x.To.After(from)
	})
}

// Longest returns the length of the longest stall.
func (l List) Longest() (d time.Duration) {
	for _, x := range l {
		d = max(d, x.To.Sub(x.From))
	}
	return d
}

// Earlier returns the earlier of two moments.
func Earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
