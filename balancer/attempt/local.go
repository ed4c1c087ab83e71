package attempt

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// localFault is the condition that this machine's own network keeps it from all endpoints.
// It is safe for concurrent use; the zero value is that it does not.
type localFault struct {
	raised atomic.Bool

	mu     sync.Mutex // guards all below
	reason string     // "" while it is not raised
	since  time.Time
}

// why is the reason, "" without a fault.
func (l *localFault) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// raise reports whether the condition is new.
func (l *localFault) raise(reason string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != "" {
		return false
	}
	l.reason, l.since = reason, now
	l.raised.Store(true)
	return true
}

// clear ends the condition, and returns since when it was raised.
func (l *localFault) clear() (since time.Time, was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was = l.reason != ""
	l.reason = ""
	l.raised.Store(false)
	return l.since, was
}

// localFault notes a network error that is, or may be, this machine's own. When
// every endpoint met one within the window, the condition is raised; it clears
// itself with the first good answer.
func (s *Sender) localFault(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	ep.MetLocalFault(by, err, now)
	if s.local.raised.Load() {
		return
	}
	for _, ep := range s.view.Load().All {
		if !ep.LocalWithin(s.cfg.LocalFaultWindow, now) {
			return
		}
	}
	if s.local.raise(localMessage(err), now) {
		s.log.Error("local network fault: no endpoint can be reached from this machine", zap.String("reason", localMessage(err)))
	}
}

// ProbeFault reports whether a probe's error is this machine's fault and not the
// endpoint's.
func (s *Sender) ProbeFault(ep *endpoint.Endpoint, err error, now time.Time) bool {
	if !endpoint.IsLocal(err) && !(endpoint.IsUnreachable(err) && !s.AnyAnswerSince(ep, ep.UnreachableSince(now))) {
		return false
	}
	s.localFault(ep, new(endpoint.Admission), err, now)
	return true
}

// clearLocal is called for a good answer.
func (s *Sender) clearLocal() {
	if since, was := s.local.clear(); was {
		s.log.Info("local network fault is over", zap.Duration("duration", time.Since(since)))
	}
}

func localMessage(err error) string {
	return localMessageFor(runtime.GOOS, err)
}

// localMessageFor names the permission that macOS 15 and later ask for: without
// it every private address is "no route to host".
func localMessageFor(goos string, err error) string {
	msg := "local network: " + err.Error()
	if goos == "darwin" && endpoint.IsUnreachable(err) {
		msg += "; on macOS 15 and later allow it under System Settings > Privacy & Security > Local Network"
	}
	return msg
}

// AnyAnswerSince reports whether another endpoint gave a good answer since a time.
func (s *Sender) AnyAnswerSince(ep *endpoint.Endpoint, since time.Time) bool {
	for _, peer := range s.view.Load().All {
		if peer != ep && peer.LastAlive() >= clock.Nano(since) {
			return true
		}
	}
	return false
}
