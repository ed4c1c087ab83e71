package server

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a controller. Figures of the cloud are the same on every
// controller: take one of them, or the maximum.
type metrics struct {
	srv      *Server
	requests *prometheus.HistogramVec
	starts   *startFigures
	fleet    *fleet

	instances, nodes, queue, queueAge *prometheus.Desc
	revision, ready, waiting, dropped *prometheus.Desc
	controllers, alarm                *prometheus.Desc
	stores, registryUp                *prometheus.Desc
}

// newMetrics registers the metrics; with a nil registerer they go nowhere.
func newMetrics(reg prometheus.Registerer, srv *Server) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("anka_controller_"+name, help, labels, nil)
	}
	m := &metrics{
		srv: srv,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "anka_controller_request_seconds", Help: "How long calls took; long polls count from the task's arrival only at their end.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"call", "code"}),
		starts:      newStartFigures(reg),
		fleet:       newFleet(desc),
		instances:   desc("instances", "Instances of the cloud by state.", "state"),
		nodes:       desc("nodes", "Nodes of the cloud by state.", "state"),
		queue:       desc("queue_length", "Instances that wait for a node."),
		queueAge:    desc("queue_oldest_seconds", "How long the oldest waiting instance has waited; goes up when nothing fits it."),
		revision:    desc("etcd_revision", "Revision of etcd that this controller's view has reached."),
		ready:       desc("ready", "1 while this controller can serve, 0 while /readyz tells a reason why not."),
		alarm:       desc("etcd_alarm", "1 while etcd has an alarm, such as NOSPACE: writes fail until it is cleared."),
		waiting:     desc("long_polls", "Agents' long polls that wait at this controller."),
		dropped:     desc("events_dropped_total", "Events that were not delivered; goes up when a receiver does not answer."),
		stores:      desc("registry_stores_apart", "Stores of registries that hold templates of their own and are not copied by others; 0 is right. See docs/operators/high-availability.md."),
		registryUp:  desc("registry_up", "1 for each registry of the cloud that answers this controller, 0 for one that does not.", "registry"),
		controllers: desc("controllers", "Controllers in the cloud's list by state.", "state"),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.instances, m.nodes, m.queue, m.queueAge, m.revision, m.ready, m.waiting, m.dropped, m.controllers, m.alarm, m.stores, m.registryUp} {
		ch <- d
	}
	m.fleet.describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, val float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, val, labels...)
	}
	instances, nodes, servers := map[api.InstanceState]int{}, map[api.NodeState]int{}, map[string]int{}
	queue, oldest := 0, time.Duration(0)
	m.srv.store.Read(func(v *cloud.View) {
		for _, i := range v.Instances {
			if i.Deleted == nil {
				instances[i.Public.InstanceState]++
			}
		}
		for _, n := range v.Nodes {
			nodes[v.NodeState(n, v.Now())]++
		}
		queue = len(v.Pending())
		for _, i := range v.Pending() {
			oldest = max(oldest, v.AgeOf(i, v.Now()))
		}
		m.fleet.collect(v, ch)
		if v.Cluster != nil {
			for _, c := range v.Cluster.Controllers {
				servers[c.State]++
			}
		}
	})
	for _, st := range []api.InstanceState{api.Scheduling, api.Pulling, api.Started, api.Stopping, api.Stopped, api.Pushing, api.Error, api.Terminating, api.Terminated} {
		gauge(m.instances, float64(instances[st]), string(st))
	}
	for _, st := range []api.NodeState{api.NodeOffline, api.NodeInactive, api.NodeActive, api.NodeUpdating, api.NodeUnhealthy, api.NodeDrain} {
		gauge(m.nodes, float64(nodes[st]), string(st))
	}
	for _, st := range []string{api.ServerReady, api.ServerDraining} {
		gauge(m.controllers, float64(servers[st]), st)
	}
	gauge(m.queue, float64(queue))
	gauge(m.queueAge, oldest.Seconds())
	gauge(m.revision, float64(m.srv.store.Revision()))
	gauge(m.ready, boolean(m.srv.notReady() == ""))
	gauge(m.alarm, boolean(m.srv.alarmed()))
	gauge(m.stores, float64(len(m.srv.catalog.regs.plan().islands)))
	for url, up := range m.srv.catalog.regs.up() {
		gauge(m.registryUp, boolean(up), url)
	}
	gauge(m.waiting, float64(m.srv.disp.waitingPolls()))
	dropped := int64(0)
	for _, s := range m.srv.events.sinks {
		dropped += s.dropped.Load()
	}
	ch <- prometheus.MustNewConstMetric(m.dropped, prometheus.CounterValue, float64(dropped))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// statusWriter notes the code of an answer, or that it is given elsewhere.
type statusWriter struct {
	http.ResponseWriter
	code     int
	hijacked bool
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Hijack implements http.Hijacker.
func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = err == nil
	return conn, buf, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe measures calls. The label is the route, of which there are few.
func (m *metrics) observe(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		begun := time.Now()
		mux.ServeHTTP(sw, r) // and sets the pattern
		if !sw.hijacked {
			m.observed(r, sw, begun)
		}
	})
}

// observeParked measures calls whose connection is parked, which observe does not
// see the answers of.
func (m *metrics) observeParked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, seen := w.(*statusWriter); seen {
			next.ServeHTTP(w, r)
			return
		}
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		begun := time.Now()
		next.ServeHTTP(sw, r)
		m.observed(r, sw, begun)
	})
}

func (m *metrics) observed(r *http.Request, sw *statusWriter, begun time.Time) {
	m.requests.WithLabelValues(r.Pattern, strconv.Itoa(sw.code)).Observe(time.Since(begun).Seconds())
}
