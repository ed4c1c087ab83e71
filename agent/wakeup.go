package agent

// wakeup wakes the goroutine that waits for it. Its capacity is 1, so that a signal
// is kept while its reader is busy, and more of them are one.
type wakeup chan struct{}

func newWakeup() wakeup { return make(wakeup, 1) }

// wake signals without waiting.
func (w wakeup) wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// wakeups are how owners wake one another's goroutines when something changed.
type wakeups struct {
	heartbeat wakeup // session: there is something to report
	inventory wakeup // inventory: VMs have changed, or may have
	plan      wakeup // reconciler: records, assignments or VMs have changed
	capacity  wakeup // poll for starts: what is free may have changed
	address   wakeup // address: look it up again
}

func newWakeups() wakeups {
	return wakeups{heartbeat: newWakeup(), inventory: newWakeup(), plan: newWakeup(), capacity: newWakeup(), address: newWakeup()}
}
