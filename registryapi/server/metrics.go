package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// metrics are the registry's. A nil Registerer keeps them to ourselves.
type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	sent      prometheus.Counter
	received  prometheus.Counter
	inFlight  prometheus.Gauge
	gcRuns    prometheus.Counter
	gcBytes   prometheus.Counter
	templates *templateCollector
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anka_registry_requests_total", Help: "Requests answered, by kind of call and class of status.",
		}, []string{"call", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "anka_registry_request_duration_seconds", Help: "Time from a request's arrival to the end of its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300, 1800},
		}, []string{"call"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anka_registry_sent_bytes_total", Help: "Bytes of answers' bodies sent.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anka_registry_received_bytes_total", Help: "Bytes of uploads received.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anka_registry_requests_in_flight", Help: "Requests being answered now.",
		}),
		gcRuns: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anka_registry_gc_runs_total", Help: "Garbage collections that this server finished.",
		}),
		gcBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anka_registry_gc_bytes_total", Help: "Bytes that this server's garbage collections removed.",
		}),
		templates: &templateCollector{s},
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.sent, m.received, m.inFlight, m.gcRuns, m.gcBytes, m.templates)
	}
	return m
}

func (m *metrics) collected(c content.Collected) {
	m.gcRuns.Inc()
	m.gcBytes.Add(float64(c.Bytes))
}

// templateCollector reads the index and the disk when it is scraped.
type templateCollector struct{ s *Server }

var (
	descState     = prometheus.NewDesc("anka_registry_state_count", "1 for the state the registry is in.", []string{"state"}, nil)
	descTotal     = prometheus.NewDesc("anka_registry_disk_total_space", "Bytes of the store's file system.", nil, nil)
	descFree      = prometheus.NewDesc("anka_registry_disk_free_space", "Free bytes of the store's file system.", nil, nil)
	descUsed      = prometheus.NewDesc("anka_registry_disk_used_space", "Used bytes of the store's file system.", nil, nil)
	descCount     = prometheus.NewDesc("anka_registry_template_count", "Templates listed.", nil, nil)
	descSkipped   = prometheus.NewDesc("anka_registry_templates_skipped", "Templates and tags left out of lists as damaged or unfinished.", nil, nil)
	descTags      = prometheus.NewDesc("anka_registry_template_tags_count", "Tags of a template.", []string{"template_uuid", "template_name"}, nil)
	descDisk      = prometheus.NewDesc("anka_registry_template_disk_used", "Bytes of a template's files, each counted once.", []string{"template_uuid", "template_name"}, nil)
	descTagDisk   = prometheus.NewDesc("anka_registry_template_tag_disk_used", "Bytes of a tag's files.", []string{"template_uuid", "template_name", "tag_name"}, nil)
	descUploads   = prometheus.NewDesc("anka_registry_uploads_unfinished", "Uploads begun and not finished.", nil, nil)
	templateDescs = []*prometheus.Desc{descState, descTotal, descFree, descUsed, descCount, descSkipped, descTags, descDisk, descTagDisk, descUploads}
)

// Describe implements prometheus.Collector.
func (c *templateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range templateDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *templateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	state := "Running"
	if free, total, err := c.s.store.Disk(); err == nil {
		gauge(descTotal, float64(total))
		gauge(descFree, float64(free))
		gauge(descUsed, float64(total-free))
	} else {
		state = "FAIL"
	}
	gauge(descState, 1, state)
	if uploads, err := c.s.store.Uploads(); err == nil {
		gauge(descUploads, float64(len(uploads)))
	}
	view := c.s.catalog.view.Load()
	if c.s.shared != nil {
		known := c.s.shared.Known()
		view = &known
	}
	if view == nil {
		return
	}
	gauge(descCount, float64(len(*view)))
	gauge(descSkipped, float64(c.s.catalog.skipped.Load()))
	for _, t := range *view {
		gauge(descTags, float64(len(t.Versions)), t.ID, t.Name)
		gauge(descDisk, float64(t.Size), t.ID, t.Name)
		for _, v := range t.Versions {
			gauge(descTagDisk, float64(v.Size), t.ID, t.Name, v.Tag)
		}
	}
}
