package agent

import (
	"maps"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// assignments is what the cloud wants of the node. It is safe for concurrent use.
type assignments struct {
	mu      sync.Mutex
	last    *controllerapi.Assignments         // guarded by mu; nil while unknown
	asked   time.Time                          // guarded by mu; when the sync that brought or confirmed them was sent
	orphans map[controllerapi.TaskID]time.Time // guarded by mu; since when an assignment has no record
}

func newAssignments() *assignments {
	return &assignments{orphans: make(map[controllerapi.TaskID]time.Time)}
}

// take replaces them with those of a sync that was sent at asked.
func (a *assignments) take(as *controllerapi.Assignments, asked time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.asked = as, asked
}

// confirm notes that a sync found them unchanged, which is as good as sent again.
func (a *assignments) confirm(asked time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last != nil {
		a.asked = asked
	}
}

// generation returns which ones these are, "" while unknown.
func (a *assignments) generation() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		return ""
	}
	return a.last.Generation
}

// compare fills in their part of s, whose records are given.
func (a *assignments) compare(s *Snapshot, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trackOrphansLocked(s.Records, now)
	s.Assignments, s.AssignmentsAsked, s.Orphans = a.last, a.asked, maps.Clone(a.orphans)
}

// trackOrphansLocked remembers since when an assignment has no record.
func (a *assignments) trackOrphansLocked(records []Record, now time.Time) {
	if a.last == nil {
		return
	}
	orphans := make(map[controllerapi.TaskID]time.Time)
	recorded := make(map[controllerapi.TaskID]bool)
	for _, r := range records {
		recorded[r.Task.ID] = true
	}
	for _, as := range a.last.Instances {
		if recorded[as.TaskID] {
			continue
		}
		since, ok := a.orphans[as.TaskID]
		if !ok {
			since = now
		}
		orphans[as.TaskID] = since
	}
	a.orphans = orphans
}

// handedBack notes when an assignment was handed back. The cloud may keep it, of an
// instance in error for one: a hand-back need not be repeated with every plan.
func (a *assignments) handedBack(id controllerapi.TaskID, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.orphans[id] = now.Add(handBackAgain)
}
