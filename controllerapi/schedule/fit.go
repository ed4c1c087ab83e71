package schedule

import (
	"cmp"
	"slices"
	"time"
)

// AgeStep is how much a step of priority is worth in waiting time: a task of
// priority 2000 goes before one of 1000 that was created 1000 steps later.
const AgeStep = time.Second

// due is the place of a task in the total order: lower goes first.
func (t *Task) due() time.Time { return t.Created.Add(time.Duration(t.Priority) * AgeStep) }

// Compare orders tasks by urgency, age, creation and, to be total, by id.
func Compare(a, b *Task) int {
	return cmp.Or(a.due().Compare(b.due()), cmp.Compare(a.Order, b.Order), cmp.Compare(a.ID, b.ID))
}

// Suits reports whether the node could run the task if it were empty.
func (n *Node) Suits(t *Task, now time.Time) bool {
	broken := n.Breaks(t, now)
	return broken == None || broken >= Room
}

// Fits reports whether the node can run the task now.
func (n *Node) Fits(t *Task, now time.Time) bool { return n.Breaks(t, now) == None }

func (n *Node) holds(used, need Size) bool {
	sum := used.Add(need)
	if n.Mode == ByResource {
		return sum.VCPU <= n.Total.VCPU && sum.RAM <= n.Total.RAM && (n.Total.VMs == 0 || sum.VMs <= n.Total.VMs)
	}
	return sum.VMs <= n.Total.VMs
}

// Full reports whether the node could not take even the smallest VM.
func (n *Node) Full() bool { return !n.holds(n.Used, Size{VMs: 1}) }

func (n *Node) hasUSB(group string) bool {
	_, ok := n.USB[group]
	return ok
}

func (n *Node) inAny(groups []string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(n.Groups, g) })
}

// load is how full the node is, from 0 to 1.
func (n *Node) load() float64 {
	if n.Mode == ByResource {
		return max(ratio(n.Used.VCPU, n.Total.VCPU), ratio(n.Used.RAM, n.Total.RAM))
	}
	return ratio(n.Used.VMs, n.Total.VMs)
}

func ratio(used, total int) float64 {
	if total <= 0 {
		return 1
	}
	return float64(used) / float64(total)
}
