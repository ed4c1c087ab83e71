package schedule

import "time"

// Rule is a condition that a node must meet to be given a task. Breaks and refuses are
// the only list of them: placement and Explain look at the same one.
type Rule uint8

// Rules, in the order in which they are looked at: first what a node is, then how it is
// at present, so that the last rule that excludes a node is the one to wait for.
const (
	None     Rule = iota // no rule is broken
	Pinned               // the task is for another node
	Arch                 // another architecture
	Group                // in none of the groups
	USB                  // no device of the group
	TooLarge             // not even when it is empty
	Inactive             // it takes no starts
	Avoided              // it handed the task back a moment ago
	// The rest end by themselves: the node suits the task.
	Room          // it is full
	USBBusy       // its devices of the group are in use
	Fallback      // a group that goes before has room
	Held          // it is kept free for an older task
	OtherHasImage // a node that has the template has room; the task is kept for it a moment
	rules         // how many there are
)

// Breaks returns the first rule about the node and the task alone that does not hold.
func (n *Node) Breaks(t *Task, now time.Time) Rule {
	switch {
	case t.Node != "" && t.Node != n.ID:
		return Pinned
	case t.Arch != "" && t.Arch != n.Arch:
		return Arch
	case len(t.Groups) > 0 && !n.inAny(t.Groups):
		return Group
	case t.USB != "" && !n.hasUSB(t.USB):
		return USB
	case !n.holds(Size{}, t.Need):
		return TooLarge
	case !n.Accepting:
		return Inactive
	case now.Before(t.Avoid[n.ID]):
		return Avoided
	case !n.holds(n.Used, t.Need):
		return Room
	case t.USB != "" && n.USB[t.USB] <= 0:
		return USBBusy
	}
	return None
}

// refuses returns the first rule that keeps the task from the node in this round, those
// of Breaks among them.
func (r *round) refuses(t *Task, c *class, n *Node) Rule {
	if broken := n.Breaks(t, r.now); broken != None {
		return broken
	}
	switch by := r.held[n.ID]; {
	case len(c.groups) > 0 && !n.inAny(c.groups):
		return Fallback
	case by != "" && by != t.ID:
		return Held
	case c.elsewhere && !n.Images[t.Image] && r.now.Before(t.Created.Add(r.cfg.ImageWait)):
		return OtherHasImage
	}
	return None
}
