package attempt

import (
	"sync"
	"time"
)

// alarm rings for an attempt at a time, unless it is taken back before.
type alarm struct {
	at         time.Time
	attempt    *attempt
	ring       func(*attempt) // runs in a goroutine of its own, which may be a hedge's
	prev, next *alarm
	set        bool
}

// alarms is one timer for the alarms of all attempts. A timer for each, set and
// stopped again, interrupts the thread that waits for the network each time,
// and cost a small request a tenth of its time: nearly all are taken back long
// before they are due. The zero value is ready. It is safe for concurrent use.
type alarms struct {
	mu    sync.Mutex
	all   alarm // of a ring: next is the first
	timer *time.Timer
	due   time.Time // when the timer fires; zero when it does not
}

// add sets al, which must not be set.
func (w *alarms) add(al *alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all.next == nil {
		w.all.next, w.all.prev = &w.all, &w.all
	}
	al.prev, al.next = w.all.prev, &w.all
	al.prev.next, al.next.prev = al, al
	al.set = true
	if w.due.IsZero() || al.at.Before(w.due) {
		w.wakeLocked(al.at)
	}
}

// remove takes al back; one that has rung, or was never set, is no matter. The
// timer is left to fire: it is there for the next ones.
func (w *alarms) remove(al *alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	al.removeLocked()
}

func (al *alarm) removeLocked() {
	if al.set {
		al.prev.next, al.next.prev = al.next, al.prev
		al.prev, al.next, al.set = nil, nil, false
	}
}

func (w *alarms) wakeLocked(at time.Time) {
	w.due = at
	if w.timer == nil {
		w.timer = time.AfterFunc(time.Until(at), w.fire)
		return
	}
	w.timer.Reset(time.Until(at))
}

// fire rings what is due and sets the timer for the earliest of the rest.
func (w *alarms) fire() {
	now := time.Now()
	var ringing []*alarm
	w.mu.Lock()
	w.due = time.Time{}
	var first *alarm
	for al := w.all.next; al != &w.all; {
		next := al.next
		switch {
		case !al.at.After(now):
			al.removeLocked()
			ringing = append(ringing, al)
		case first == nil || al.at.Before(first.at):
			first = al
		}
		al = next
	}
	if first != nil {
		w.wakeLocked(first.at)
	}
	w.mu.Unlock()
	for _, al := range ringing {
		go al.ring(al.attempt) // ends with its pass
	}
}
