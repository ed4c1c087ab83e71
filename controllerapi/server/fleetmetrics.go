package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// startFigures count how starts go. Each start is counted at the one controller
// that took the node's report: sum over controllers.
type startFigures struct {
	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

var _ cloud.StartObserver = (*startFigures)(nil)

func newStartFigures(reg prometheus.Registerer) *startFigures {
	f := &startFigures{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "anka_controller_start_seconds",
			Help:    "How long starts took, by template and stage: queued, pulling, starting, and total from the request to Started.",
			Buckets: []float64{.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600},
		}, []string{"template", "stage"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anka_controller_start_failures_total",
			Help: "Goes up when a start ends in error, by template and reason: node, handed_back, no_node or node_lost.",
		}, []string{"template", "reason"}),
	}
	if reg != nil {
		reg.MustRegister(f.seconds, f.failures)
	}
	return f
}

// Took implements cloud.StartObserver.
func (f *startFigures) Took(t api.TemplateRef, stage cloud.Stage, d time.Duration) {
	f.seconds.WithLabelValues(templateLabel(t), string(stage)).Observe(d.Seconds())
}

// Failed implements cloud.StartObserver.
func (f *startFigures) Failed(t api.TemplateRef, why cloud.Failure) {
	f.failures.WithLabelValues(templateLabel(t), string(why)).Inc()
}

func templateLabel(t api.TemplateRef) string {
	if t.Name != "" {
		return t.Name
	}
	return string(t.ID)
}

// fleet describes the figures of the nodes: capacity for all and by group, and
// what each node carries in its heartbeat.
type fleet struct {
	slots, groupSlots, versions                            *prometheus.Desc
	info, nodeSlots, diskFree, disk                        *prometheus.Desc
	endpoints, failedOpen, beats, retries, resumes, pulled *prometheus.Desc
	starts                                                 *prometheus.Desc
}

func newFleet(desc func(name, help string, labels ...string) *prometheus.Desc) *fleet {
	const states = " State is used, free, or unavailable: free on a node that takes no starts."
	node := func(name, help string, labels ...string) *prometheus.Desc {
		return desc("node_"+name, help, append([]string{"node_id", "node"}, labels...)...)
	}
	return &fleet{
		slots:      desc("vm_slots", "Slots for VMs in the cloud."+states, "state"),
		groupSlots: desc("group_vm_slots", "Slots for VMs by group; a node in two groups counts in both."+states, "group", "state"),
		versions:   desc("nodes_by_version", "Nodes of the cloud by the version of their agent.", "version"),
		info:       node("info", "1 for each node, with what changes rarely.", "state", "agent_version", "hypervisor", "hypervisor_version", "arch"),
		nodeSlots:  node("vm_slots", "Slots for VMs of a node."+states, "state"),
		diskFree:   node("disk_free_bytes", "Free space where the node's images lie."),
		disk:       node("disk_bytes", "Size of that disk."),
		endpoints:  node("endpoints", "Servers that the node's agent balances over, by pool and whether it uses them now.", "pool", "state"),
		failedOpen: node("failed_open", "1 while the node finds too few usable servers in a pool and tries all."),
		beats:      node("heartbeats_failed_total", "Goes up with a heartbeat of the node that no controller answered; told afterwards."),
		retries:    node("retries_total", "Goes up when the node's agent sends a request again after a failure."),
		resumes:    node("resumes_total", "Goes up when a download of the node goes on at another registry."),
		pulled:     node("pulls_total", "Goes up with every pull of the node.", "result"),
		starts:     node("vm_starts_total", "Goes up with every start command of the node.", "result"),
	}
}

func (f *fleet) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.slots, f.groupSlots, f.versions, f.info, f.nodeSlots, f.diskFree, f.disk,
		f.endpoints, f.failedOpen, f.beats, f.retries, f.resumes, f.pulled, f.starts} {
		ch <- d
	}
}

// slots are places for VMs.
type slots struct{ used, free, unavailable int }

func (s *slots) add(o slots) { s.used += o.used; s.free += o.free; s.unavailable += o.unavailable }

func slotsOf(v *cloud.View, n *cloud.Node) slots {
	total, used := v.Capacity(n)
	s := slots{used: used.VMs}
	free := max(total.VMs-used.VMs, 0)
	if n.Settings.CapacityMode == schedule.ByResource {
		// A VM of the smallest sensible size must fit beside what runs.
		free = min(free, max(total.VCPU-used.VCPU, 0), max(total.RAM-used.RAM, 0)/1024)
	}
	if v.Accepting(n, v.Now()) {
		s.free = free
	} else {
		s.unavailable = free
	}
	return s
}

func (s slots) collect(ch chan<- prometheus.Metric, d *prometheus.Desc, labels ...string) {
	for _, state := range []struct {
		name string
		n    int
	}{{"used", s.used}, {"free", s.free}, {"unavailable", s.unavailable}} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(state.n), append(append([]string{}, labels...), state.name)...)
	}
}

// collect reads the view; the caller holds its lock.
func (f *fleet) collect(v *cloud.View, ch chan<- prometheus.Metric) {
	all, groups, versions := slots{}, make(map[string]*slots), make(map[string]int)
	for _, g := range v.Groups {
		groups[g.Name] = new(slots) // also those without a node
	}
	for _, n := range v.Nodes {
		s := slotsOf(v, n)
		all.add(s)
		for _, id := range v.GroupsOf(n.ID) {
			if g := v.Groups[id]; g != nil {
				groups[g.Name].add(s)
			}
		}
		versions[n.Facts.AgentVersion]++
		f.node(v, n, s, ch)
	}
	all.collect(ch, f.slots)
	for name, s := range groups {
		s.collect(ch, f.groupSlots, name)
	}
	for version, count := range versions {
		ch <- prometheus.MustNewConstMetric(f.versions, prometheus.GaugeValue, float64(count), version)
	}
}

func (f *fleet) node(v *cloud.View, n *cloud.Node, s slots, ch chan<- prometheus.Metric) {
	id, name := string(n.ID), n.Settings.Name
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, append([]string{id, name}, labels...)...)
	}
	tell(f.info, prometheus.GaugeValue, 1, string(v.NodeState(n, v.Now())), n.Facts.AgentVersion, n.Facts.AnkaVersion.Product, n.Facts.AnkaVersion.Version, n.Facts.HostArch)
	s.collect(ch, f.nodeSlots, id, name)
	tell(f.disk, prometheus.GaugeValue, float64(n.Facts.DiskSize))
	load, known := v.Loads[n.ID]
	if !known {
		return
	}
	tell(f.diskFree, prometheus.GaugeValue, float64(load.FreeDiskSpace))
	c := load.Numbers
	if c == nil {
		return
	}
	for _, pool := range []struct {
		name        string
		all, usable int
	}{{"controllers", c.Controllers, c.ControllersUsable}, {"registries", c.Registries, c.RegistriesUsable}} {
		tell(f.endpoints, prometheus.GaugeValue, float64(pool.usable), pool.name, "usable")
		tell(f.endpoints, prometheus.GaugeValue, float64(max(pool.all-pool.usable, 0)), pool.name, "unusable")
	}
	tell(f.failedOpen, prometheus.GaugeValue, boolean(c.FailedOpen))
	tell(f.beats, prometheus.CounterValue, float64(c.BeatsFailed))
	tell(f.retries, prometheus.CounterValue, float64(c.Retries))
	tell(f.resumes, prometheus.CounterValue, float64(c.Resumes))
	for _, r := range []struct {
		d           *prometheus.Desc
		all, failed uint64
	}{{f.pulled, c.Pulls, c.PullsFailed}, {f.starts, c.Starts, c.StartsFailed}} {
		tell(r.d, prometheus.CounterValue, float64(r.all-min(r.failed, r.all)), "ok")
		tell(r.d, prometheus.CounterValue, float64(r.failed), "error")
	}
}
