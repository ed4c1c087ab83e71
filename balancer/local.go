package balancer

import (
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// localFault notes a network error that is, or may be, this machine's own. When
// every endpoint met one within the window, the condition is raised; it clears
// itself with the first good answer.
func (b *Balancer) localFault(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	ep.MetLocalFault(by, err, now)
	b.mu.Lock()
	raised := b.local == "" && b.allLocalLocked(now)
	if raised {
		b.local, b.localAt = localMessage(err), now
		b.hasLocal.Store(true)
	}
	b.mu.Unlock()
	if raised {
		b.log.Error("local network fault: no endpoint can be reached from this machine", zap.String("reason", localMessage(err)))
	}
}

func (b *Balancer) allLocalLocked(now time.Time) bool {
	for _, ep := range b.snap.Load().All {
		if !ep.LocalWithin(b.cfg.LocalFaultWindow, now) {
			return false
		}
	}
	return true
}

// probeFault says that a probe's error is this machine's fault and not the
// endpoint's.
func (b *Balancer) probeFault(ep *endpoint.Endpoint, err error, now time.Time) bool {
	if !endpoint.IsLocal(err) && !(endpoint.IsUnreachable(err) && !b.anyAnswerSince(ep, ep.UnreachableSince(now))) {
		return false
	}
	b.localFault(ep, new(endpoint.Admission), err, now)
	return true
}

func (b *Balancer) localAtAll() bool { return b.hasLocal.Load() }

func (b *Balancer) clearLocal() {
	b.mu.Lock()
	was, since := b.local, b.localAt
	b.local = ""
	b.hasLocal.Store(false)
	b.mu.Unlock()
	if was != "" {
		b.log.Info("local network fault is over", zap.Duration("duration", time.Since(since)))
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
