package agent

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// metrics of the agent. Label values come from small closed sets.
type metrics struct {
	heartbeats *prometheus.CounterVec
	beatTime   prometheus.Histogram
	tasksBegun *prometheus.CounterVec
	tasks      *prometheus.CounterVec
	taskTime   *prometheus.HistogramVec
	pulls      *prometheus.CounterVec
	pullTime   prometheus.Histogram
	starts     *prometheus.CounterVec
	startTime  prometheus.Histogram

	// What the heartbeat carries of the above.
	beatsFailed, pullsAll, pullsFailed, startsAll, startsFailed atomic.Uint64
}

// count adds to the numbers that the heartbeat carries.
func count(all, failed *atomic.Uint64, err error) {
	all.Add(1)
	if err != nil {
		failed.Add(1)
	}
}

// numbers fills in what the agent itself has counted.
func (m *metrics) numbers(n *controllerapi.NodeNumbers) {
	n.BeatsFailed = m.beatsFailed.Load()
	n.PullsFailed, n.StartsFailed = m.pullsFailed.Load(), m.startsFailed.Load()
	n.Pulls, n.Starts = m.pullsAll.Load(), m.startsAll.Load()
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "anka_agent_" + name, Help: help}, labels)
	}
	long := prometheus.ExponentialBuckets(0.5, 2, 14) // 0.5 s to over an hour
	m := &metrics{
		heartbeats: counter("heartbeats_total", "Goes up with every heartbeat; result is ok or error.", "result"),
		beatTime:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "anka_agent_heartbeat_seconds", Help: "How long a heartbeat took, all attempts together.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 13)}),
		tasksBegun: counter("tasks_started_total", "Goes up when the agent takes a task up, again after a restart.", "kind"),
		tasks:      counter("tasks_total", "Goes up when a task ends; phase is done, failed or returned.", "kind", "phase"),
		taskTime:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "anka_agent_task_seconds", Help: "From a task's claim to its end.", Buckets: long}, []string{"kind"}),
		pulls:      counter("pulls_total", "Goes up with every pull; result is ok or error.", "result"),
		pullTime:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "anka_agent_pull_seconds", Help: "How long a pull took.", Buckets: long}),
		starts:     counter("vm_starts_total", "Goes up with every start command; result is ok, timeout or error.", "result"),
		startTime:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "anka_agent_vm_start_seconds", Help: "How long a start command took.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 12)}),
	}
	if reg != nil {
		reg.MustRegister(m.heartbeats, m.beatTime, m.tasksBegun, m.tasks, m.taskTime, m.pulls, m.pullTime, m.starts, m.startTime)
	}
	return m
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, command.ErrTimeout), errors.Is(err, command.ErrStalled):
		return "timeout"
	}
	return "error"
}

func (m *metrics) heartbeat(d time.Duration, err error) {
	m.heartbeats.WithLabelValues(result(err)).Inc()
	if err != nil {
		m.beatsFailed.Add(1)
	}
	m.beatTime.Observe(d.Seconds())
}

func (m *metrics) taskStarted(kind controllerapi.TaskKind) {
	m.tasksBegun.WithLabelValues(string(kind)).Inc()
}

func (m *metrics) taskEnded(kind controllerapi.TaskKind, phase controllerapi.TaskPhase, d time.Duration) {
	m.tasks.WithLabelValues(string(kind), string(phase)).Inc()
	m.taskTime.WithLabelValues(string(kind)).Observe(d.Seconds())
}

func (m *metrics) pulled(d time.Duration, err error) {
	m.pulls.WithLabelValues(result(err)).Inc()
	count(&m.pullsAll, &m.pullsFailed, err)
	m.pullTime.Observe(d.Seconds())
}

func (m *metrics) started(d time.Duration, err error) {
	m.starts.WithLabelValues(result(err)).Inc()
	count(&m.startsAll, &m.startsFailed, err)
	m.startTime.Observe(d.Seconds())
}

// ObserveCommands returns an observer that counts the hypervisor's commands.
func ObserveCommands(reg prometheus.Registerer) command.Observer {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "anka_agent_command_seconds", Help: "How long a command of the hypervisor took.",
		Buckets: prometheus.ExponentialBuckets(0.01, 3, 10),
	}, []string{"command", "result"})
	reg.MustRegister(seconds)
	return func(verb string, d time.Duration, err error) {
		seconds.WithLabelValues(verb, result(err)).Observe(d.Seconds())
	}
}
