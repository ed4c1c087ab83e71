package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// unheard is after how long it is odd that no node takes a start that fits.
const unheard = 20 * time.Second

// placed is the answer for an instance that does not wait.
func (a Asker) placed(i *cloud.Instance) api.Why {
	out := api.Why{
		InstanceID: i.Public.InstanceID, State: i.Public.InstanceState, Cause: api.CausePlaced, Priority: i.Priority,
		Rules: []api.WhyRule{}, Fit: api.WhyNodes{IDs: []api.NodeID{}}, HandedBack: []api.WhyHandback{}, Advice: []string{},
	}
	out.Text = fmt.Sprintf("It does not wait for a node: it is %s", i.Public.InstanceState)
	if i.Public.NodeID != "" {
		a.Cloud.Read(func(v *cloud.View) {
			out.Text += " on " + nameOf(v.Nodes[i.Public.NodeID], string(i.Public.NodeID))
		})
	}
	if i.Public.Message != "" {
		out.Text += ": " + i.Public.Message
	}
	out.Text = strings.TrimSuffix(out.Text, ".") + "."
	return out
}

// text tells what a rule says of the nodes that it excludes. It goes on from their
// number, with a verb for many; see verb.
func (q *question) text(rule schedule.Rule, nodes []*schedule.Node) string {
	verb := func(one, many string) string {
		if len(nodes) == 1 {
			return one
		}
		return many
	}
	is, has := verb("is", "are"), verb("has", "have")
	switch rule {
	case schedule.Pinned:
		return fmt.Sprintf("%s not %s, which it asks for", is, q.pinned())
	case schedule.Arch:
		if arch := nodes[0].Arch; !slices.ContainsFunc(nodes, func(n *schedule.Node) bool { return n.Arch != arch }) {
			return fmt.Sprintf("%s %s, it needs %s", is, arch, q.task.Arch)
		}
		return fmt.Sprintf("%s not %s, which it needs", is, q.task.Arch)
	case schedule.Group:
		return fmt.Sprintf("%s not in group %s", is, q.chain())
	case schedule.USB:
		return fmt.Sprintf("%s no device of USB group %s", has, q.task.USB)
	case schedule.TooLarge:
		if largest := largest(nodes); largest != "" {
			return fmt.Sprintf("%s too small: it asks for %s, the largest has %s", is, size(q.task.Need), largest)
		}
		return is + " set to run no VMs"
	case schedule.Inactive:
		return fmt.Sprintf("%s nothing now: %s", verb("takes", "take"), q.states(nodes))
	case schedule.Avoided:
		return fmt.Sprintf("handed it back; %s asked again in %s", is, short(q.again(nodes)))
	case schedule.Room:
		if full := slots(nodes); full != "" {
			return fmt.Sprintf("%s full (%s)", is, full)
		}
		return fmt.Sprintf("%s not %s free", has, size(q.task.Need))
	case schedule.USBBusy:
		return fmt.Sprintf("%s no free device of USB group %s (%s)", has, q.task.USB, q.devices(nodes))
	case schedule.Fallback:
		return fmt.Sprintf("%s in a fallback group, and group %s has room", is, q.group(q.Groups[0]))
	case schedule.Held:
		return fmt.Sprintf("%s kept free for larger starts that wait longer", is)
	case schedule.OtherHasImage:
		return fmt.Sprintf("%s not the template; it is kept %s for one that has it", has, short(q.Until.Sub(q.now)))
	}
	return ""
}

// sentence tells the cause, and what ends the wait.
func (q *question) sentence(cause api.WhyCause) string {
	able := 0 // nodes that could run it
	for rule := schedule.Room; int(rule) < len(q.Excluded); rule++ {
		able += len(q.Excluded[rule])
	}
	nodes := q.Excluded[schedule.None]
	for rule, name := range ruleOf {
		if name == cause {
			nodes = q.Excluded[rule]
		}
	}
	switch cause {
	case api.CauseStore:
		return "No start is taken at present: etcd takes no writes (" + q.Stuck + ")."
	case api.CauseNoNodes:
		return "The cloud has no nodes. It starts when one joins."
	case api.CauseFits:
		return q.fits()
	case api.CauseQueue:
		return fmt.Sprintf("There is room for %d now on %s, and %s before it. It starts when more room comes free.",
			q.Slots, q.names(q.fit()), count(q.Before, "start goes", "starts go"))
	case api.CauseImage:
		if with := q.withTemplate(); with != "" {
			return fmt.Sprintf("Nothing is wrong: it is kept %s for %s, which has the template.", short(q.Until.Sub(q.now)), with)
		}
		return fmt.Sprintf("Nothing is wrong: it is kept %s for a node that has the template.", short(q.Until.Sub(q.now)))
	case api.CauseFull:
		if q.Kept != "" {
			return fmt.Sprintf("%s is kept free for it since %s: it needs more than is free anywhere. It starts there when enough has ended.",
				q.name(q.Kept), short(q.now.Sub(q.KeptSince)))
		}
		return every(able, "full") + ". It starts when a VM there ends."
	case api.CauseUSBBusy:
		return fmt.Sprintf("USB group %s: %s. It starts when a VM that has one ends.", q.task.USB, q.devices(nodes))
	case api.CauseHeld:
		return every(able, "full, or kept free for larger starts that wait longer") + ". It starts when those have."
	case api.CausePinned:
		return fmt.Sprintf("It is pinned to %s, which is no node of the cloud.", q.pinned())
	case api.CauseArch:
		return fmt.Sprintf("No node is %s, which its template needs.", q.task.Arch)
	case api.CauseGroup:
		return fmt.Sprintf("No node that could run it is in group %s.", q.chain())
	case api.CauseUSB:
		return fmt.Sprintf("No node that could run it has a device of USB group %s.", q.task.USB)
	case api.CauseTooLarge:
		if largest := largest(nodes); largest != "" {
			return fmt.Sprintf("No node is that big: it asks for %s, the largest has %s.", size(q.task.Need), largest)
		}
		return every(len(nodes), "set to run no VMs") + ": max_vm_count is 0."
	case api.CauseInactive:
		if q.task.Node != "" && len(nodes) == 1 {
			return fmt.Sprintf("It is pinned to %s, which %s.", q.pinned(), q.condition(nodes[0]))
		}
		if len(nodes) == 1 {
			return fmt.Sprintf("The one node that could run it, %s, %s.", q.names(nodes), q.condition(nodes[0]))
		}
		return fmt.Sprintf("None of the %d nodes that could run it takes starts now: %s.", len(nodes), q.states(nodes))
	case api.CauseAvoided:
		last := q.i.Avoid[len(q.i.Avoid)-1]
		text := fmt.Sprintf("%s handed it back", q.name(string(last.Node)))
		if last.Why != "" {
			text += fmt.Sprintf(" (%q)", last.Why)
		}
		return fmt.Sprintf("%s, and no other node could run it. It is asked again in %s.", text, short(q.again(nodes)))
	}
	return ""
}

func (q *question) fits() string {
	fit := q.fit()
	able := count(len(fit), "node", "nodes")
	switch {
	case !q.queued && q.Before > 0:
		return fmt.Sprintf("It would start now: %s could take it (%s), and %s before it.", able, q.names(fit), count(q.Before, "start goes", "starts go"))
	case !q.queued:
		return fmt.Sprintf("It would start now: %s could take it (%s).", able, q.names(fit))
	case q.waited >= unheard:
		return fmt.Sprintf("%s could take it now (%s), and none has in the %s that it waits: see whether their agents reach the controllers.", able, q.names(fit), short(q.waited))
	}
	return fmt.Sprintf("Nothing is wrong: %s can take it now (%s), and one should within moments.", able, q.names(fit))
}

// every begins a sentence about all nodes that could run it.
func every(able int, of string) string {
	if able == 1 {
		return "The one node that could run it is " + of
	}
	return fmt.Sprintf("All %d nodes that could run it are %s", able, of)
}

func (q *question) advice(cause api.WhyCause) []string {
	out := []string{}
	add := func(lines ...string) { out = append(out, lines...) }
	group := ""
	if len(q.task.Groups) > 0 {
		group = q.group(q.task.Groups[0])
	}
	switch cause {
	case api.CauseStore:
		add("make room in etcd and lift its alarm")
	case api.CauseNoNodes:
		add("join a node")
	case api.CauseFits:
		if q.queued && q.waited >= unheard {
			add("run `ankacluster status` on " + q.name(string(first(q.fit(), 1)[0])))
		}
	case api.CauseFull, api.CauseHeld, api.CauseQueue:
		add("end a VM on one of these nodes")
		if group != "" {
			add("add a node to group " + group)
		}
		if len(q.task.Groups) == 1 {
			add("give group " + group + " a fallback")
		}
		if q.task.Node != "" {
			add("let it start on any node")
		}
		if q.Place > 1 {
			add("give it a priority with a lower number")
		}
	case api.CauseUSBBusy, api.CauseUSB:
		add("attach one more device of USB group " + q.task.USB)
	case api.CausePinned:
		add("let it start on any node")
	case api.CauseArch:
		add("join a node that is " + q.task.Arch)
	case api.CauseGroup:
		add("add a node to group "+group, "let it start in any group")
	case api.CauseTooLarge:
		if largest(q.Excluded[schedule.TooLarge]) != "" {
			add("ask for fewer cores or less memory")
		}
	case api.CauseInactive:
		states := make(map[api.NodeState]bool)
		for _, n := range q.Excluded[schedule.Inactive] {
			_, state := q.node(n.ID)
			states[state] = true
		}
		for _, s := range inactive {
			if states[s.state] {
				add(s.advice)
			}
		}
		if q.task.Node != "" {
			add("let it start on any node")
		}
	case api.CauseAvoided:
		add("mend what the node says")
	}
	return out
}
