package drill

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// fault is one way in which a backend breaks and heals again.
type fault struct {
	inject func(*backendProcess) error
	heal   func(*backendProcess) error
}

var (
	killed    = fault{inject: func(b *backendProcess) error { b.kill(); return nil }, heal: (*backendProcess).start}
	suspended = fault{
		inject: func(b *backendProcess) error { return b.proc.Suspend() },
		heal:   func(b *backendProcess) error { return b.proc.Resume() },
	}
	unreachable = fault{inject: (*backendProcess).dropPackets, heal: (*backendProcess).passPackets}
)

func behaving(how behaviour) fault {
	return fault{
		inject: func(b *backendProcess) error { return b.proc.Order(how) },
		heal:   func(b *backendProcess) error { return b.proc.Order(behaviour{}) },
	}
}

// slowBy is far beyond what any caller accepts and yet no error.
const slowBy = 5 * time.Second

var (
	overloaded      = behaving(behaviour{Status: http.StatusServiceUnavailable})
	overloadedReady = behaving(behaviour{Status: http.StatusServiceUnavailable, Ready: true})
	slow            = behaving(behaviour{Delay: slowBy})
	slowReady       = behaving(behaviour{Delay: slowBy, Ready: true})
	resettingBefore = behaving(behaviour{Reset: resetBeforeBody, Ready: true})
	unended         = behaving(behaviour{Endless: endlessSilence, Ready: true})
	flooding        = behaving(behaviour{Endless: endlessBytes, Ready: true})
	notFound        = behaving(behaviour{Status: http.StatusNotFound, Ready: true})
	failingPosts    = behaving(behaviour{Status: http.StatusInternalServerError, Posts: true, Ready: true})
	refusingPosts   = behaving(behaviour{Status: http.StatusNotFound, Posts: true, Ready: true})
	resettingTenth  = behaving(behaviour{Reset: resetBeforeBody, Every: 10, Ready: true})
	hangingTenth    = behaving(behaviour{Hang: true, Every: 10, Ready: true})
	resettingMid    = behaving(behaviour{Reset: resetMidBody, Ready: true})
)

// event is something that happened to a backend while the load ran.
type event struct {
	at      time.Time
	backend int
	broke   bool // false: healed
}

// act is one performance of a scenario's script.
type act struct {
	ctx     context.Context
	stage   *stage
	victims []*backendProcess // chosen by the seed
	lasts   time.Duration     // how long the fault lasts
	fetch   *fetch            // the download under way, if that is the load

	mu     sync.Mutex
	events []event // guarded by mu
}

func (a *act) record(b *backendProcess, broke bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, event{at: time.Now(), backend: b.index, broke: broke})
}

func (a *act) happened() []event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]event(nil), a.events...)
}

func (a *act) wait(d time.Duration) error {
	wait(a.ctx, d)
	return a.ctx.Err()
}

func (a *act) inject(f fault, b *backendProcess) error {
	a.record(b, true)
	return f.inject(b)
}

func (a *act) heal(f fault, b *backendProcess) error {
	if err := f.heal(b); err != nil {
		return err
	}
	a.record(b, false) // after the fact: a process that starts is not there yet
	return nil
}

// A script breaks backends and heals them again; it returns once all are well.
type script func(*act) error

func nothing(a *act) error { return a.wait(a.lasts) }

// once breaks the victims together and heals them together.
func once(f fault) script {
	return func(a *act) error {
		for _, b := range a.victims {
			if err := a.inject(f, b); err != nil {
				return err
			}
		}
		if err := a.wait(a.lasts); err != nil {
			return err
		}
		for _, b := range a.victims {
			if err := a.heal(f, b); err != nil {
				return err
			}
		}
		return nil
	}
}

// crashLoop kills the victim as soon as it has been back for a second.
func crashLoop(a *act) error {
	b := a.victims[0]
	for end := time.Now().Add(a.lasts); ; {
		if err := a.inject(killed, b); err != nil {
			return err
		}
		if err := a.wait(time.Second); err != nil {
			return err
		}
		if err := a.heal(killed, b); err != nil {
			return err
		}
		if time.Now().After(end) {
			return nil
		}
		if err := a.wait(time.Second); err != nil {
			return err
		}
	}
}

// rollingRestart asks one backend after the other to leave and starts it again.
func rollingRestart(a *act) error {
	for _, b := range a.victims {
		a.record(b, true)
		if err := b.restart(a.ctx); err != nil {
			return err
		}
		a.record(b, false)
		if err := a.wait(time.Second); err != nil {
			return err
		}
	}
	return nil
}

// blackout kills everything for ten seconds; then one backend returns, and a
// second later the others.
func blackout(a *act) error {
	for _, b := range a.victims {
		if err := a.inject(killed, b); err != nil {
			return err
		}
	}
	if err := a.wait(min(a.lasts, 10*time.Second)); err != nil {
		return err
	}
	for i, b := range a.victims {
		if err := a.heal(killed, b); err != nil {
			return err
		}
		if i == 0 {
			if err := a.wait(time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}
