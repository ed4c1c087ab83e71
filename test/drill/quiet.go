package drill

import (
	"context"
	"sync"
	"time"
)

// beat is how often the drill looks whether it still gets the processor.
const beat = 5 * time.Millisecond

// takePulse watches how late this process gets the processor, until the
// returned function is called, which says what the worst was. While the drill
// itself stands still, so does everything that it measures.
func takePulse() (worst func() time.Duration) {
	done := make(chan struct{})
	var late time.Duration
	var watching sync.WaitGroup
	watching.Go(func() {
		timer := time.NewTimer(beat)
		defer timer.Stop()
		for due := time.Now().Add(beat); ; {
			select {
			case <-done:
				return
			case now := <-timer.C:
				// The timer's own time, not when it is read: that may be later still.
				late = max(late, now.Sub(due), time.Since(due))
				due = time.Now().Add(beat)
				timer.Reset(beat)
			}
		}
	})
	return sync.OnceValue(func() time.Duration {
		close(done)
		watching.Wait()
		return late
	})
}

// lateDriver is how late the drill may be before what it blames on the door may
// have been the machine: twenty requests become due meanwhile.
const lateDriver = 40 * time.Millisecond

// busyRepeats is how many scenarios of one drill are held again because the
// machine was too busy. More would not find it quiet either.
const busyRepeats = 4

// repeats decides which scenarios are held again.
type repeats struct {
	tries int // of a scenario that breaks a promise
	busy  int // repeats left for a busy machine
}

// hold performs a scenario until its verdict is worth something: once, again
// when a promise was broken while the machine was busy, and as often as tries
// allows when it was not. A promise that is broken only while the drill itself
// does not get the processor is neither kept nor broken: it was not judged.
func (r *repeats) hold(ctx context.Context, s scenario, perform func(context.Context, scenario) (*Row, error)) (*Row, error) {
	for held, quiet := 1, 0; ; held++ {
		row, err := perform(ctx, s)
		if err != nil {
			return nil, err
		}
		row.Repeated = held - 1
		if len(row.Broken) == 0 {
			return row, nil
		}
		if row.excusable() {
			if r.busy > 0 {
				r.busy--
				continue
			}
			row.Unjudged, row.Broken = row.Broken, nil
			return row, nil
		}
		if quiet++; quiet >= r.tries {
			return row, nil
		}
	}
}

// excusable says that a pause of the machine may be what broke the promises. No
// pause makes a write run twice, forgets one, or changes a byte.
func (r *Row) excusable() bool {
	for _, t := range r.tallies() {
		if t != nil && t.Twice+t.Lost > 0 {
			return false
		}
	}
	if t := r.Transfer; t != nil && t.Received == t.Size && !t.Identical {
		return false
	}
	return r.Driver.d > lateDriver
}
