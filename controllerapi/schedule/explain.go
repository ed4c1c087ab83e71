package schedule

import (
	"slices"
	"time"
)

// Explanation is why a task waits.
type Explanation struct {
	Place   int // among the tasks, from 1
	Waiting int // how many there are, this one among them
	// Excluded are the nodes that each rule excludes, of those that the rules before it
	// left. Excluded[None] can take the task: any of them gets it that asks for work
	// now, alone, and is not given one that goes before.
	Excluded [rules][]*Node
	Groups   []string // that may be used now
	// Until is when nodes under OtherHasImage may take it.
	Until time.Time
	// Kept is the node that is kept free for this task, since KeptSince; "" for none.
	Kept      string
	KeptSince time.Time
	// Before is how many tasks that go before can take one of Excluded[None], and Slots
	// how many tasks like this one have room there.
	Before, Slots int
}

// Explain tells of each node which rule keeps the task from it, by the rules of Assign.
// tasks are those that wait, sorted by Compare; t may be among them. It changes nothing.
func Explain(cfg Config, t *Task, tasks []*Task, all []*Node, now time.Time) Explanation {
	ahead, among := slices.BinarySearchFunc(tasks, t, Compare)
	e := Explanation{Place: ahead + 1, Waiting: len(tasks), Until: t.Created.Add(cfg.ImageWait)}
	if !among {
		e.Waiting++
	}
	// A round in which no node asks: what goes before has only the nodes that are held
	// for it.
	r := round{cfg: cfg, all: all, now: now, classes: make(map[classKey]*class), held: make(map[string]string)}
	for _, before := range tasks[:ahead] {
		r.place(before)
	}
	c := r.classes[t.class()]
	if c == nil {
		c = r.newClass(t)
	}
	c.elsewhere = elsewhere(t, c.groups, all, now)
	e.Groups = c.groups
	for _, n := range all {
		rule := r.refuses(t, c, n)
		e.Excluded[rule] = append(e.Excluded[rule], n)
	}
	r.hold(t, c)
	for id, by := range r.held {
		if by == t.ID {
			e.Kept, e.KeptSince = id, t.Created.Add(cfg.HoldAfter)
		}
	}
	for _, n := range e.Excluded[None] {
		e.Slots += n.free(t)
	}
	for _, before := range tasks[:ahead] {
		if e.Slots == 0 {
			break
		}
		bc := r.classes[before.class()]
		if slices.ContainsFunc(e.Excluded[None], func(n *Node) bool { return r.refuses(before, bc, n) == None }) {
			e.Before++
		}
	}
	return e
}

// free is how many tasks like t the node has room for.
func (n *Node) free(t *Task) (count int) {
	for used := n.Used; n.holds(used, t.Need) && (t.USB == "" || n.USB[t.USB] > count) && count < maxFree; count++ {
		used = used.Add(t.Need)
	}
	return count
}

// maxFree bounds what free counts: no host runs more VMs.
const maxFree = 64
