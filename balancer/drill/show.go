package drill

import (
	"fmt"
	"sync"
	"time"
)

// show keeps a line on the terminal up to date until the returned function is
// called.
func (c Config) show(name string, line func() string) (stop func()) {
	if c.Live == nil {
		return func() {}
	}
	done := make(chan struct{})
	var showing sync.WaitGroup
	begun := time.Now()
	showing.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(c.Live, "\r\033[K")
				return
			case <-tick.C:
				fmt.Fprintf(c.Live, "\r\033[K%-14s %4.0fs  %s", name, time.Since(begun).Seconds(), line())
			}
		}
	})
	return func() { close(done); showing.Wait() }
}

func showLoad(lanes []*lane) func() string {
	return func() string {
		var sent, failed, slow, open int64
		for _, l := range lanes {
			sent += l.live.sent.Load()
			failed += l.live.failed.Load()
			slow += l.live.slow.Load()
			open += l.live.open.Load()
		}
		return fmt.Sprintf("sent %d  failed %d  slow %d  waiting %d", sent, failed, slow, open)
	}
}

func showDownload(f *fetch, size int64) func() string {
	return func() string {
		n := f.received.Load()
		return fmt.Sprintf("%d of %d MiB (%d%%)", n>>20, size>>20, n*100/size)
	}
}

// Verdict is the last column: kept, BROKEN, not judged, or why it was skipped.
func (r *Row) Verdict() string {
	switch {
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case len(r.Broken) > 0:
		return "BROKEN"
	case len(r.Unjudged) > 0:
		return "not judged (machine busy)"
	}
	return "kept"
}
