package why

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// inactive are the states of nodes that take no starts.
var inactive = []struct {
	state             api.NodeState
	many, one, advice string
}{
	{api.NodeDrain, "drain", "drains", "end the drain of a node"},
	{api.NodeOffline, "offline", "is offline", "bring a node back that is offline"},
	{api.NodeInactive, "without licence", "has no licence", "see why a node is inactive: `ankacluster doctor` there"},
	{api.NodeUpdating, "upgrade their agents", "upgrades its agent", "wait for the upgrade"},
}

// states counts the nodes in each state.
func (q *question) states(nodes []*schedule.Node) string {
	counts := make(map[api.NodeState]int)
	for _, n := range nodes {
		_, state := q.node(n.ID)
		counts[state]++
	}
	var parts []string
	for _, s := range inactive {
		if counts[s.state] > 0 {
			parts = append(parts, strconv.Itoa(counts[s.state])+" "+s.many)
		}
	}
	return strings.Join(parts, ", ")
}

// condition tells why one node takes no starts.
func (q *question) condition(n *schedule.Node) string {
	about, state := q.node(n.ID)
	for _, s := range inactive {
		if about == nil || s.state != state {
			continue
		}
		switch heard := q.Heard(api.NodeID(n.ID)); {
		case s.state == api.NodeInactive && about.Facts.Inactive != "":
			return "is inactive: " + about.Facts.Inactive
		case s.state == api.NodeOffline && !heard.IsZero():
			return s.one + ": its last word was " + short(q.now.Sub(heard)) + " ago"
		}
		return s.one
	}
	return "takes no starts"
}

func (q *question) pinned() string { return q.name(q.task.Node) }

func (q *question) group(id string) string { return cmp.Or(q.groups[id], id) }

// chain is the asked group and its fallbacks.
func (q *question) chain() string {
	text := q.group(q.task.Groups[0])
	for k, id := range q.task.Groups[1:] {
		if k == 0 {
			text += " nor its fallback"
		}
		text += " " + q.group(id)
	}
	return text
}

// names are those of at most three nodes, in order of their ids.
func (q *question) names(nodes []*schedule.Node) string {
	const most = 3
	var parts []string
	for _, id := range first(nodes, most) {
		parts = append(parts, q.name(string(id)))
	}
	if more := len(nodes) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// withTemplate is the name of a node that can take it and has its template.
func (q *question) withTemplate() string {
	for _, id := range first(slices.DeleteFunc(slices.Clone(q.fit()), func(n *schedule.Node) bool { return !n.Images[q.task.Image] }), 1) {
		return q.name(string(id))
	}
	return ""
}

// again is in how long the first of the nodes is asked again.
func (q *question) again(nodes []*schedule.Node) time.Duration {
	first := time.Duration(-1)
	for _, n := range nodes {
		if d := q.task.Avoid[n.ID].Sub(q.now); first < 0 || d < first {
			first = d
		}
	}
	return max(0, first)
}

// devices counts those of the USB group.
func (q *question) devices(nodes []*schedule.Node) string {
	devices := 0
	for _, n := range nodes {
		if about, _ := q.node(n.ID); about != nil {
			for _, d := range about.Facts.USBDevices {
				if d.Group == q.task.USB {
					devices++
				}
			}
		}
	}
	if devices == 1 {
		return "1 device, in use"
	}
	return fmt.Sprintf("%d devices, all in use", devices)
}

// largest is the most that any of the nodes could give a VM, "" if none counts cores.
func largest(nodes []*schedule.Node) string {
	var most schedule.Size
	for _, n := range nodes {
		if n.Mode == schedule.ByResource && (n.Total.VCPU > most.VCPU || n.Total.VCPU == most.VCPU && n.Total.RAM > most.RAM) {
			most = n.Total
		}
	}
	if most.VCPU == 0 {
		return ""
	}
	return size(most)
}

// slots counts those of nodes that have them, "" if one has none.
func slots(nodes []*schedule.Node) string {
	used, total := 0, 0
	for _, n := range nodes {
		if n.Mode == schedule.ByResource {
			return ""
		}
		used, total = used+n.Used.VMs, total+n.Total.VMs
	}
	return fmt.Sprintf("%d of %s", used, count(total, "slot", "slots"))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// size is cores and memory.
func size(s schedule.Size) string {
	return fmt.Sprintf("%s and %s GB", count(s.VCPU, "core", "cores"), strconv.FormatFloat(float64(s.RAM*10/1024)/10, 'f', -1, 64))
}

// short is a time as people say it.
func short(d time.Duration) string {
	switch d = max(0, d); {
	case d < 10*time.Second:
		return strconv.FormatFloat(float64(d.Round(100*time.Millisecond))/float64(time.Second), 'f', -1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 10*time.Minute && d%time.Minute >= time.Second:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
