package agent

import (
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// recentlyEndedFor is how long an ended instance's start is refused.
const recentlyEndedFor = time.Hour

// recentlyEnded are the instances that were ended on this node a short while ago. It
// is safe for concurrent use.
type recentlyEnded struct {
	mu        sync.Mutex
	instances map[controllerapi.InstanceID]endedInstance // guarded by mu
}

type endedInstance struct {
	attempt int
	at      time.Time
}

func newRecentlyEnded() *recentlyEnded {
	return &recentlyEnded{instances: make(map[controllerapi.InstanceID]endedInstance)}
}

// add notes that an instance ended in an attempt, or in an earlier one.
func (e *recentlyEnded) add(id controllerapi.InstanceID, attempt int, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instances[id] = endedInstance{max(attempt, e.instances[id].attempt), now}
}

// has reports whether an instance ended in an attempt, or in a later one.
func (e *recentlyEnded) has(id controllerapi.InstanceID, attempt int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	recent, ended := e.instances[id]
	return ended && attempt <= recent.attempt
}

// forget drops what ended too long ago.
func (e *recentlyEnded) forget(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, t := range e.instances {
		if now.Sub(t.at) > recentlyEndedFor {
			delete(e.instances, id)
		}
	}
}
