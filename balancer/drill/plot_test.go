package drill

import (
	"slices"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/drill/door"
)

func TestPlotCountsWhenRequestsWereDue(t *testing.T) {
	t.Parallel()
	late, void := answered(0.25, 0.6, "a"), failed(0.35)
	void.void = true
	lanes := []*lane{
		{samples: []*sample{answered(0, 0.3, "a"), answered(0.05, 0, "b"), late, failed(0.31)}},
		{samples: []*sample{answered(0.099, 0, "a"), answered(0.1, 0, "c"), void}},
	}
	events := []event{{at: at(0.2), backend: 1, broke: true}, {at: at(0.25), backend: 0, broke: true}, {at: at(0.3), backend: 1}}
	p := plotOf(lanes, events, epoch, at(0.4))
	for i, want := range [][]int{{2, 0, 0, 0, 0}, {1, 0, 0, 0, 0}, {0, 1, 0, 0, 0}} {
		if !slices.Equal(p.Answered[i], want) {
			t.Errorf("backend %s answered %v, want %v", backendName(i), p.Answered[i], want)
		}
	}
	if !slices.Equal(p.Slow, []int{0, 0, 1, 0, 0}) || !slices.Equal(p.Failed, []int{0, 0, 0, 1, 0}) {
		t.Errorf("slow %v, failed %v", p.Slow, p.Failed)
	}
	if want := []Fault{{1, 200 * time.Millisecond, 300 * time.Millisecond}, {0, 250 * time.Millisecond, 400 * time.Millisecond}}; !slices.Equal(p.Faults, want) {
		t.Errorf("faults %v, want %v", p.Faults, want)
	}
}

// told is a door that has moves to tell.
type told struct {
	door.Door
	moves []balancer.Transition
}

func (d told) Dials() map[string][]time.Time { return nil }
func (d told) Moves() []balancer.Transition  { return d.moves }

func TestMovesAreThoseOutOfUseAndBack(t *testing.T) {
	t.Parallel()
	move := func(s float64, addr string, from, to balancer.State) balancer.Transition {
		return balancer.Transition{Endpoint: "http://" + addr, From: from, To: to, At: at(s), Reason: "x"}
	}
	got := moves(told{moves: []balancer.Transition{
		move(-1, "a:1", balancer.Unknown, balancer.Healthy),
		move(1, "b:1", balancer.Unknown, balancer.Healthy), // no change of use
		move(2, "b:1", balancer.Healthy, balancer.Ejected),
		move(3, "b:1", balancer.Ejected, balancer.Down),
		move(4, "b:1", balancer.Down, balancer.Healthy),
		move(5, "z:1", balancer.Healthy, balancer.Down), // none of the backends
	}}, []string{"a:1", "b:1"}, epoch)
	if want := []Move{{1, 2 * time.Second, true, "x"}, {1, 4 * time.Second, false, "x"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
