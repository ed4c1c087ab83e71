package simnode

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Ledger is the truth about VMs: it is told of each one's beginning and end at
// the moment they happen, by every node. It is safe for concurrent use.
type Ledger struct {
	mu        sync.Mutex
	running   map[controllerapi.InstanceID][]entry
	confirms  map[controllerapi.InstanceID]claim
	startedAt map[controllerapi.InstanceID]time.Time
	awaited   map[controllerapi.InstanceID]chan struct{} // closed when it is Started
	begun     int
	broken    []Violation
}

type entry struct {
	node    controllerapi.NodeID
	uuid    string
	attempt int
	since   time.Time
}

type claim struct {
	node    controllerapi.NodeID
	attempt int
}

// ViolationKind is a promise that was broken.
type ViolationKind string

const (
	Doubled      ViolationKind = "doubled"       // two VMs of one instance at once
	StartedTwice ViolationKind = "started twice" // two starts of one instance were confirmed
	OverCapacity ViolationKind = "over capacity" // more VMs on a node than it takes
	Lost         ViolationKind = "lost"          // Started, and no VM; or acknowledged, and not there
	Orphan       ViolationKind = "orphan"        // a VM whose instance is over
	Stuck        ViolationKind = "stuck"         // neither Started nor over after a long time
	Damaged      ViolationKind = "damaged"       // an answer shows other bytes than were stored
)

// Violation is one broken promise.
type Violation struct {
	Kind     ViolationKind            `json:"kind"`
	Instance controllerapi.InstanceID `json:"instance_id"`
	At       time.Time                `json:"at"`
	Detail   string                   `json:"detail"`
}

func (v Violation) String() string {
	return fmt.Sprintf("%s %s at %s: %s", v.Kind, v.Instance, v.At.Format("15:04:05.000"), v.Detail)
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{running: make(map[controllerapi.InstanceID][]entry), confirms: make(map[controllerapi.InstanceID]claim),
		startedAt: make(map[controllerapi.InstanceID]time.Time), awaited: make(map[controllerapi.InstanceID]chan struct{})}
}

func (l *Ledger) began(node controllerapi.NodeID, v vm, onNode, capacity int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	if others := l.running[v.instance]; len(others) > 0 {
		l.breakLocked(Doubled, v.instance, fmt.Sprintf("attempt %d began on %s, while attempt %d ran on %s since %s",
			v.attempt, node, others[0].attempt, others[0].node, others[0].since.Format("15:04:05.000")))
	}
	if onNode > capacity {
		l.breakLocked(OverCapacity, v.instance, fmt.Sprintf("%d VMs on %s, which takes %d", onNode, node, capacity))
	}
	l.running[v.instance] = append(l.running[v.instance], entry{node, v.info.UUID, v.attempt, time.Now()})
}

func (l *Ledger) ended(node controllerapi.NodeID, v vm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := slices.DeleteFunc(l.running[v.instance], func(e entry) bool { return e.node == node && e.uuid == v.info.UUID })
	if len(left) == 0 {
		delete(l.running, v.instance)
		return
	}
	l.running[v.instance] = left
}

// confirmed is told when the cloud has accepted that an instance is Started.
func (l *Ledger) confirmed(node controllerapi.NodeID, id controllerapi.InstanceID, attempt int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := claim{node, attempt}
	before, seen := l.confirms[id]
	if seen && before != now {
		l.breakLocked(StartedTwice, id, fmt.Sprintf("attempt %d on %s, then attempt %d on %s", before.attempt, before.node, attempt, node))
	}
	l.confirms[id] = now
	if !seen {
		l.startedAt[id] = time.Now()
		if ch := l.awaited[id]; ch != nil {
			close(ch)
			delete(l.awaited, id)
		}
	}
}

// Started returns a channel that is closed once an instance's start is confirmed.
func (l *Ledger) Started(id controllerapi.InstanceID) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := l.awaited[id]
	if ch == nil {
		ch = make(chan struct{})
		if _, ok := l.startedAt[id]; ok {
			close(ch)
			return ch
		}
		l.awaited[id] = ch
	}
	return ch
}

// Break records a violation that was found elsewhere.
func (l *Ledger) Break(kind ViolationKind, id controllerapi.InstanceID, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breakLocked(kind, id, detail)
}

func (l *Ledger) breakLocked(kind ViolationKind, id controllerapi.InstanceID, detail string) {
	l.broken = append(l.broken, Violation{kind, id, time.Now(), detail})
}

// Violations returns what was broken so far.
func (l *Ledger) Violations() []Violation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Violation{}, l.broken...)
}

// StartedAt returns when an instance's start was confirmed.
func (l *Ledger) StartedAt(id controllerapi.InstanceID) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.startedAt[id]
	return t, ok
}

// Running returns the instances that have a VM now.
func (l *Ledger) Running() []controllerapi.InstanceID {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]controllerapi.InstanceID, 0, len(l.running))
	for id := range l.running {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Where names the nodes that run an instance's VMs.
func (l *Ledger) Where(id controllerapi.InstanceID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var on []string
	for _, e := range l.running[id] {
		on = append(on, fmt.Sprintf("%s (attempt %d)", e.node, e.attempt))
	}
	return strings.Join(on, ", ")
}

// Begun returns how many VMs have ever begun.
func (l *Ledger) Begun() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}
