package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/registryapi"
)

// provenFor is how old the last proof may be for the state to say that the
// catalogue is fresh.
const provenFor = 15 * time.Second

// State tells how this host and the others stand, from memory.
func (c *Cluster) State(context.Context) registryapi.Cluster {
	st := registryapi.Cluster{Catalogue: c.cat.identity(), Self: c.cfg.Name, Copies: c.cfg.wanted(), Strict: c.cfg.Strict,
		Fresh: c.joined() && c.cat.provenWithin(provenFor), Hosts: []registryapi.ClusterHost{}, CopiedBytes: c.copier.Copied()}
	c.cat.read(func(v *view) {
		tags := make(map[string]int)
		for _, r := range v.repos {
			for _, t := range r.tags {
				st.Tags++
				for store := range r.copies[t.Digest] {
					tags[store]++
				}
				if c.few(r, t, v) {
					st.FewCopies++
				}
				if !r.copies[t.Digest][c.self] {
					st.Missing++
				}
			}
		}
		for store, h := range v.hosts {
			st.Hosts = append(st.Hosts, registryapi.ClusterHost{Name: h.Name, URL: h.URL, Store: store,
				Self: store == c.self, Live: v.live[store], Tags: tags[store]})
		}
	})
	slices.SortFunc(st.Hosts, func(a, b registryapi.ClusterHost) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Store, b.Store))
	})
	c.errMu.Lock()
	defer c.errMu.Unlock()
	st.LastError = c.lastErr
	return st
}

// few reports whether fewer hosts than wanted have all of a tag. A host that is
// down counts: its disk is there until another takes its place.
func (c *Cluster) few(r *repository, t tagRecord, v *view) bool {
	n, wanted := 0, c.cfg.wanted()
	// A host that goes by an address where --cluster has names knows no better.
	named := slices.Contains(c.cfg.Hosts, c.cfg.Name)
	for store := range r.copies[t.Digest] {
		if h, known := v.hosts[store]; known && (!named || slices.Contains(c.cfg.Hosts, h.Name)) {
			n++
		}
	}
	return n < wanted
}

// Copies lists which hosts have which tags.
func (c *Cluster) Copies(ctx context.Context) ([]registryapi.TagCopies, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	list := []registryapi.TagCopies{}
	templates := c.Known()
	c.cat.read(func(v *view) {
		for _, t := range templates {
			r := v.repos[t.Repository]
			if r == nil {
				continue
			}
			for _, tag := range r.sorted() {
				rec := r.tags[tag.Name]
				tc := registryapi.TagCopies{TemplateID: t.ID, Template: t.Name, Repository: t.Repository, Tag: tag.Name,
					Digest: string(tag.Digest), Pushed: tag.Pushed, Hosts: []string{}, Few: c.few(r, rec, v)}
				for k, b := range r.needs(tag.Digest) {
					if k > 0 { // without itself
						tc.Size += uint64(b.Size)
					}
				}
				for store := range r.copies[tag.Digest] {
					if h, ok := v.hosts[store]; ok {
						tc.Hosts = append(tc.Hosts, h.Name)
						if v.live[store] {
							tc.Live++
						}
					}
				}
				slices.Sort(tc.Hosts)
				list = append(list, tc)
			}
		}
	})
	return list, nil
}

// metrics of a host:
//
//	anka_registry_cluster_hosts                  hosts that are known
//	anka_registry_cluster_hosts_live             hosts that are up
//	anka_registry_cluster_tags                   tags in the catalogue
//	anka_registry_cluster_tags_with_few_copies   tags that too few hosts have
//	anka_registry_cluster_tags_missing_here      tags that this host has not yet
//	anka_registry_cluster_copied_bytes_total     bytes copied from other hosts
//	anka_registry_cluster_errors_total           failures, each tried again
type metrics struct{ bytes, errors prometheus.Counter }

func newMetrics(reg prometheus.Registerer, c *Cluster) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "anka_registry_cluster_" + name, Help: help})
	}
	m := &metrics{
		bytes:  counter("copied_bytes_total", "Bytes of content copied from other hosts."),
		errors: counter("errors_total", "Failures of copying from and to other hosts; each is tried again."),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, f func(registryapi.Cluster) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "anka_registry_cluster_" + name, Help: help},
			func() float64 { return float64(f(c.State(context.Background()))) })
	}
	reg.MustRegister(m.bytes, m.errors,
		gauge("hosts", "Hosts of the registry that are known.", func(s registryapi.Cluster) int { return len(s.Hosts) }),
		gauge("hosts_live", "Hosts of the registry that are up.", func(s registryapi.Cluster) int {
			n := 0
			for _, h := range s.Hosts {
				if h.Live {
					n++
				}
			}
			return n
		}),
		gauge("tags", "Tags in the catalogue.", func(s registryapi.Cluster) int { return s.Tags }),
		gauge("tags_with_few_copies", "Tags of which fewer hosts than asked for have all content.", func(s registryapi.Cluster) int { return s.FewCopies }),
		gauge("tags_missing_here", "Tags of which this host has not all content yet.", func(s registryapi.Cluster) int { return s.Missing }))
	return m
}
