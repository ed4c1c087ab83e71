package drill

import (
	"slices"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/drill/door"
)

// PlotStep is the time for which a Plot has one number.
const PlotStep = 100 * time.Millisecond

// Plot is how a scenario went, for people to look at. Its lists have one number a
// PlotStep; a request counts when it was due, as in all that is measured.
type Plot struct {
	Length time.Duration
	// Answered in time, by backend in their order.
	Answered [][]int
	Slow     []int
	Failed   []int
	Received []int64 // bytes of the download, if that is the load
	Faults   []Fault
	Moves    []Move
}

// Fault is a time in which a backend was broken.
type Fault struct {
	Backend  int
	From, To time.Duration // since the load began
}

// Move is when a door took a backend out, or back.
type Move struct {
	Backend int
	At      time.Duration // since the load began
	Out     bool
	Why     string
}

// plotOf draws what the lanes saw from begun to end.
func plotOf(lanes []*lane, events []event, begun, end time.Time) *Plot {
	p := &Plot{Length: end.Sub(begun), Faults: faults(events, begun, end)}
	steps := int(p.Length/PlotStep) + 1
	names := []string{backendName(0), backendName(1), backendName(2)}
	for range names {
		p.Answered = append(p.Answered, make([]int, steps))
	}
	p.Slow, p.Failed = make([]int, steps), make([]int, steps)
	for _, l := range lanes {
		for _, s := range l.samples {
			into := p.Failed
			switch i := slices.Index(names, s.backend); {
			case s.void:
				continue // it counts nowhere
			case s.failure != "":
			case s.slow():
				into = p.Slow
			case i >= 0:
				into = p.Answered[i]
			}
			into[min(max(0, int(s.due.Sub(begun)/PlotStep)), steps-1)]++
		}
	}
	return p
}

// faults are the times between an event that breaks a backend and one that heals it.
func faults(events []event, begun, end time.Time) (all []Fault) {
	for i, e := range events {
		if !e.broke {
			continue
		}
		f := Fault{Backend: e.backend, From: e.at.Sub(begun), To: end.Sub(begun)}
		for _, later := range events[i:] {
			if later.backend == e.backend && !later.broke {
				f.To = later.at.Sub(begun)
				break
			}
		}
		all = append(all, f)
	}
	return all
}

// moves are when a door took backends out, and back, since begun.
func moves(d door.Telling, addrs []string, begun time.Time) (all []Move) {
	usable := func(s balancer.State) bool { return s == balancer.Healthy || s == balancer.Unknown }
	for _, t := range d.Moves() {
		i := slices.Index(addrs, strings.TrimPrefix(t.Endpoint, "http://"))
		if at := t.At.Sub(begun); i >= 0 && at >= 0 && usable(t.From) != usable(t.To) {
			all = append(all, Move{Backend: i, At: at, Out: !usable(t.To), Why: t.Reason})
		}
	}
	return all
}
