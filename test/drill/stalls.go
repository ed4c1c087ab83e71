package drill

import (
	"sync"
	"syscall"
	"time"
)

// beat is how often the drill looks whether it still gets the processor.
const beat = 5 * time.Millisecond

// stall is a time in which this process did not get the processor although it
// was due to run: the machine stood still, or gave it to others.
type stall struct{ from, to time.Time }

// stalls are the stalls of one scenario, in order.
type stalls []stall

// noticed is the shortest stall that counts: twice the scheduler's own turns.
const noticed = 10 * time.Millisecond

// harmful is the shortest stall that may make a request fail, or move traffic:
// twenty requests become due meanwhile, and then all at once.
const harmful = 40 * time.Millisecond

// watchStalls looks out for stalls until the returned function is called, which
// returns them. What the process does to itself is no stall: if it used the
// processor for half of the time, the machine ran.
func watchStalls() (seen func() stalls) {
	done := make(chan struct{})
	var list stalls
	var watching sync.WaitGroup
	watching.Go(func() {
		timer := time.NewTimer(beat)
		defer timer.Stop()
		for used, due := processTime(), time.Now().Add(beat); ; {
			select {
			case <-done:
				return
			case <-timer.C:
			}
			now, usedNow := time.Now(), processTime()
			if late := now.Sub(due); late >= noticed && usedNow-used < late/2 {
				list = append(list, stall{due, now})
			}
			used, due = usedNow, now.Add(beat)
			timer.Reset(beat)
		}
	})
	return sync.OnceValue(func() stalls {
		close(done)
		watching.Wait()
		return list
	})
}

// processTime is how long this process has had the processor.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stood returns how long the machine stood still between two moments.
func (s stalls) stood(from, to time.Time) (sum time.Duration) {
	for _, x := range s {
		sum += max(0, earlier(x.to, to).Sub(latest(x.from, from)))
	}
	return sum
}

// ran returns how long the machine ran between two moments.
func (s stalls) ran(from, to time.Time) time.Duration { return to.Sub(from) - s.stood(from, to) }

// harm reports whether a harmful stall lies between two moments, or into them.
func (s stalls) harm(from, to time.Time) bool {
	for _, x := range s {
		if x.to.Sub(x.from) >= harmful && x.from.Before(to) && x.to.After(from) {
			return true
		}
	}
	return false
}

// longest returns the longest stall.
func (s stalls) longest() (d time.Duration) {
	for _, x := range s {
		d = max(d, x.to.Sub(x.from))
	}
	return d
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
