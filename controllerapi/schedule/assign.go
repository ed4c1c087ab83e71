package schedule

import (
	"slices"
	"strings"
	"time"
)

// Strategy says which of several fitting nodes gets a task.
type Strategy string

const (
	Spread Strategy = "spread" // the emptiest
	Pack   Strategy = "pack"   // the fullest
)

// Config of the decisions.
type Config struct {
	Strategy Strategy
	// ImageWait is how long a task is kept for a node that has its template and
	// room for it, before one that must pull the template may take it.
	ImageWait time.Duration
	// HoldAfter is how long a task waits before a node that could run it, were it
	// emptier, is held for it: without, small VMs could keep a large one waiting
	// for ever.
	HoldAfter time.Duration
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Strategy: Spread,
		// A waiting node answers in milliseconds; a pull takes minutes.
		ImageWait: time.Second,
		// Longer than most starts take, shorter than a person's patience.
		HoldAfter: 2 * time.Minute,
	}
}

// Match is a decision: the node gets the task.
type Match struct{ Task, Node string }

// Assign decides which of the waiting nodes gets which task, one task a node. all
// are the nodes of the cloud, of which some wait. later is the earliest time at
// which another decision could be reached with nothing else changed, or zero.
// tasks are sorted by Compare. The nodes' Used is charged for what they get.
func Assign(cfg Config, tasks []*Task, waiting, all []*Node, now time.Time) (matches []Match, later time.Time) {
	r := round{cfg: cfg, waiting: waiting, all: all, now: now, classes: make(map[classKey]*class), held: make(map[string]string)}
	for _, t := range tasks {
		if len(matches) == len(waiting) {
			break
		}
		n := r.place(t)
		if n == nil {
			for _, until := range t.Avoid {
				if now.Before(until) {
					r.wake(until)
				}
			}
			continue
		}
		n.Used = n.Used.Add(t.Need)
		if t.USB != "" && n.USB != nil {
			n.USB[t.USB]--
		}
		matches = append(matches, Match{Task: t.ID, Node: n.ID})
		r.taken[n.ID] = true
	}
	return matches, r.later
}

// round is one call of Assign.
type round struct {
	cfg          Config
	waiting, all []*Node
	now          time.Time
	later        time.Time
	classes      map[classKey]*class
	taken        map[string]bool   // waiting nodes that have a task
	held         map[string]string // node -> the overdue task that it is held for
}

// class is what tasks that ask for the same have in common within a round, so
// that a thousand of them look at ten thousand nodes once.
type class struct {
	groups     []string // that may be used now
	candidates []*Node  // of the waiting, best first
	elsewhere  bool     // a node with the template has room, waiting or not
	settled    bool     // held for an overdue task, if there is one
}

// place returns the node that gets the task, or nil.
func (r *round) place(t *Task) *Node {
	if r.taken == nil {
		r.taken = make(map[string]bool, len(r.waiting))
	}
	key := t.class()
	c := r.classes[key]
	if c == nil {
		c = r.newClass(t)
		r.classes[key] = c
	}
	for k, n := range c.candidates {
		if r.taken[n.ID] {
			continue
		}
		switch r.refuses(t, c, n) {
		case None:
			c.candidates = c.candidates[k+1:]
			return n
		case OtherHasImage:
			r.wake(t.Created.Add(r.cfg.ImageWait))
			return nil
		}
	}
	r.hold(t, c)
	return nil
}

func (r *round) wake(at time.Time) {
	if r.later.IsZero() || at.Before(r.later) {
		r.later = at
	}
}

// newClass looks at all nodes for the first task of its class.
func (r *round) newClass(t *Task) *class {
	c := &class{groups: t.Groups}
	if len(t.Groups) > 1 {
		c.groups = usable(t, r.all, r.now)
	}
	type ranked struct {
		node  *Node
		score float64
	}
	var list []ranked
	for _, n := range r.waiting {
		if broken := r.refuses(t, c, n); broken == None || broken == Held {
			list = append(list, ranked{n, r.cfg.score(n, t)})
		}
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return 0
	})
	for _, x := range list {
		c.candidates = append(c.candidates, x.node)
	}
	if len(list) > 0 && !list[len(list)-1].node.Images[t.Image] {
		c.elsewhere = elsewhere(t, c.groups, r.all, r.now)
	}
	return c
}

// hold keeps one node from younger tasks for a task that is overdue and fits no
// node as they are. Every controller picks the same one.
func (r *round) hold(t *Task, c *class) {
	if due := t.Created.Add(r.cfg.HoldAfter); r.now.Before(due) {
		r.wake(due)
		return
	}
	if c.settled {
		return // one at a time for tasks that ask for the same
	}
	c.settled = true
	best, rank := "", uint64(0)
	for _, n := range r.all {
		if r.held[n.ID] != "" || !n.Suits(t, r.now) {
			continue
		}
		if n.Fits(t, r.now) {
			return // it only has to ask
		}
		if h := hash(t.ID, n.ID); best == "" || h > rank {
			best, rank = n.ID, h
		}
	}
	if best != "" {
		r.held[best] = t.ID
	}
}

// hash is FNV-1a of both strings: rendezvous hashing picks a node for a task.
func hash(a, b string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range []string{a, "\x00", b} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	return h
}

// classKey names what a task asks for.
type classKey struct {
	alone           string // the task's id, when it avoids nodes
	image           Image
	arch, node, usb string
	groups          string
	need            Size
}

func (t *Task) class() classKey {
	if len(t.Avoid) > 0 {
		return classKey{alone: t.ID}
	}
	return classKey{image: t.Image, arch: t.Arch, node: t.Node, usb: t.USB, groups: strings.Join(t.Groups, "\x01"), need: t.Need}
}

// score ranks a fitting node for a task: the template counts first.
func (c Config) score(n *Node, t *Task) float64 {
	s := 1 - n.load()
	if c.Strategy == Pack {
		s = n.load()
	}
	if n.Images[t.Image] {
		s += 2
	}
	return s
}

// usable returns the first of the task's groups in which a node has room, or the
// asked one when all are full.
func usable(t *Task, all []*Node, now time.Time) []string {
	for i := range t.Groups {
		one := *t
		one.Groups = t.Groups[i : i+1]
		if slices.ContainsFunc(all, func(n *Node) bool { return n.Fits(&one, now) }) {
			return one.Groups
		}
	}
	return t.Groups[:1]
}

// elsewhere reports whether a node that has the task's template has room for it.
func elsewhere(t *Task, groups []string, all []*Node, now time.Time) bool {
	return slices.ContainsFunc(all, func(n *Node) bool {
		return n.Images[t.Image] && n.Fits(t, now) && (len(groups) == 0 || n.inAny(groups))
	})
}
