package replication

import "github.com/prometheus/client_golang/prometheus"

// metrics of the replication:
//
//	anka_registry_replication_lag_seconds            age of the oldest change that is not here
//	anka_registry_replication_pending_repositories   repositories that differ from their sources
//	anka_registry_replication_connected              sources that answer
//	anka_registry_replication_bytes_total            bytes copied
//	anka_registry_replication_tags_total             tags put or deleted
//	anka_registry_replication_errors_total           failures, each tried again
type metrics struct {
	bytes, tags, errors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Replicator) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "anka_registry_replication_" + name, Help: help})
	}
	m := &metrics{
		bytes:  counter("bytes_total", "Bytes of content copied from other registries."),
		tags:   counter("tags_total", "Tags put or deleted because a source did."),
		errors: counter("errors_total", "Failures of the replication; each is tried again."),
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "anka_registry_replication_" + name, Help: help}, f)
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.bytes, m.tags, m.errors,
		gauge("lag_seconds", "Age of the oldest change at a source that is not here yet.", func() float64 { return r.State().LagSeconds }),
		gauge("pending_repositories", "Repositories that differ from their sources.", func() float64 { return float64(r.State().Pending) }),
		gauge("connected", "Sources that answer.", func() float64 {
			n := 0
			for _, s := range r.State().Sources {
				if s.Connected {
					n++
				}
			}
			return float64(n)
		}))
	return m
}
