package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/test/simnode"
)

// Latency sums up a histogram, in milliseconds.
type Latency struct {
	Count  int64   `json:"count"`
	Errors int64   `json:"errors"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

func latency(h *simnode.Histogram, errors int64) Latency {
	return Latency{h.Count(), errors, ms(h.Quantile(0.50)), ms(h.Quantile(0.99)), ms(h.Max())}
}

func ms(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// Processors says how many processors each kind of process kept busy.
type Processors struct {
	Driver      float64 `json:"driver"`
	Controllers float64 `json:"controllers"`
	Etcd        float64 `json:"etcd"`
}

func shares(before, after usage, took time.Duration) Processors {
	share := func(a, b time.Duration) float64 {
		return float64((b - a).Milliseconds()) / max(1, float64(took.Milliseconds()))
	}
	return Processors{share(before.driver, after.driver), share(before.controllers, after.controllers), share(before.etcd, after.etcd)}
}

// Report is what a run saw.
type Report struct {
	Nodes    int     `json:"nodes"`
	Duration float64 `json:"duration_s"`

	RegisterAll float64 `json:"register_all_s"`
	// Joining are the syncs until all nodes were Active, Sync those after.
	Joining Latency `json:"sync_joining"`
	Sync    Latency `json:"sync"`
	// MaxOffline is the most nodes that a list has shown as Offline at once.
	MaxOffline int     `json:"max_offline"`
	NodeList   Latency `json:"node_list"`
	List       Latency `json:"instance_list"`
	ListLength int     `json:"instance_list_length"` // at most

	Creates          Latency `json:"create"`
	CreatesPerSecond float64 `json:"creates_per_second"`
	CreateToStarted  Latency `json:"create_to_started"`
	Terminates       Latency `json:"terminate"`

	Burst        int     `json:"burst,omitempty"`
	BurstStarted float64 `json:"burst_all_started_s,omitempty"`

	EtcdWritesPerSecond float64 `json:"etcd_writes_per_second,omitempty"`
	EtcdSizeBefore      int64   `json:"etcd_size_before,omitempty"`
	EtcdSizeAfter       int64   `json:"etcd_size_after,omitempty"`

	// Of a run with --cloud: processors in use, and the resident sets of the
	// controllers before the nodes came, at the end of the steady load, and at most.
	ProcessorsJoining Processors `json:"processors_joining"`
	Processors        Processors `json:"processors"`
	MemoryIdle        []int64    `json:"controller_memory_idle,omitempty"`
	MemorySteady      []int64    `json:"controller_memory_steady,omitempty"`
	MemoryMost        []int64    `json:"controller_memory_most,omitempty"`

	Drained    float64             `json:"drained_s"` // until no VM and no instance was left
	Violations []simnode.Violation `json:"violations"`
}

func (r Report) print(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-18s "+format+"\n", append([]any{name}, args...)...)
	}
	lat := func(name string, l Latency) {
		if l.Count+l.Errors > 0 {
			line(name, "p50 %.2f ms  p99 %.2f ms  max %.2f ms  (%d, %d errors)", l.P50, l.P99, l.Max, l.Count, l.Errors)
		}
	}
	line("nodes", "%d, all registered after %.2f s", r.Nodes, r.RegisterAll)
	lat("sync, joining", r.Joining)
	lat("sync", r.Sync)
	line("offline", "%d at most", r.MaxOffline)
	lat("node list", r.NodeList)
	lat("instance list", r.List)
	if r.ListLength > 0 {
		line("", "%d instances at most", r.ListLength)
	}
	if r.Burst > 0 {
		line("burst", "%d instances Started after %.2f s", r.Burst, r.BurstStarted)
	}
	lat("create", r.Creates)
	if r.Creates.Count > 0 {
		line("", "%.1f a second", r.CreatesPerSecond)
	}
	lat("create to Started", r.CreateToStarted)
	lat("terminate", r.Terminates)
	if r.EtcdSizeAfter > 0 {
		line("etcd", "%.1f writes a second, %.1f MB before, %.1f MB after", r.EtcdWritesPerSecond, float64(r.EtcdSizeBefore)/1e6, float64(r.EtcdSizeAfter)/1e6)
	}
	if len(r.MemoryMost) > 0 {
		line("controllers", "%s MB before the nodes came, %s at the end, %s at most", megabytes(r.MemoryIdle), megabytes(r.MemorySteady), megabytes(r.MemoryMost))
		for _, p := range []struct {
			when string
			Processors
		}{{"joining", r.ProcessorsJoining}, {"steady", r.Processors}} {
			line("processors", "%s: driver %.2f, controllers %.2f, etcd %.2f", p.when, p.Driver, p.Controllers, p.Etcd)
		}
	}
	line("drained", "after %.2f s", r.Drained)
	line("violations", "%d", len(r.Violations))
	for _, v := range r.Violations {
		fmt.Fprintf(w, "  %s\n", v)
	}
}

// megabytes are those of each controller.
func megabytes(sets []int64) string {
	var all []string
	for _, b := range sets {
		all = append(all, fmt.Sprintf("%.0f", float64(b)/1e6))
	}
	return strings.Join(all, ", ")
}
