package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// kindOfServer tells the two kinds apart that are harmed.
type kindOfServer string

const (
	controller kindOfServer = "controller"
	member     kindOfServer = "etcd"
)

// harm is what is done to a server.
type harm string

const (
	kill harm = "kill" // SIGKILL, and a new start at the end
	stop harm = "stop" // SIGSTOP, and SIGCONT at the end
	cut  harm = "cut"  // nothing passes, until the end
)

// fault is one harm, from at for the duration lasts.
type fault struct {
	at, lasts time.Duration
	server    kindOfServer
	index     int
	harm      harm
}

func (f fault) String() string {
	return fmt.Sprintf("%7.2fs %s %s-%d for %s", f.at.Seconds(), f.harm, f.server, f.index+1, f.lasts.Round(10*time.Millisecond))
}

// Limits of the plan. Two of three controllers may be ill at once: one that is
// well has to do. Of the etcd members only one may be.
const (
	illControllers = 2
	illMembers     = 1
	shortest       = 500 * time.Millisecond
	longest        = 6 * time.Second
	// rest follows an etcd member's illness, in which it catches up: without it
	// the next one's would be the illness of two.
	rest = 3 * time.Second
)

// plan draws faults for a run of the given length, as many as every seconds ask
// for. The last ones end before the run does.
func plan(seed uint64, length, every time.Duration) []fault {
	rng := rand.New(rand.NewPCG(seed, 0x6368616f73))
	span := func(low, high time.Duration) time.Duration { return low + time.Duration(rng.Int64N(int64(high-low))) }
	var faults []fault
	for at := span(0, every); at < length; at += span(every/2, every*3/2) {
		f := fault{at: at, lasts: span(shortest, longest), index: rng.IntN(3), server: controller, harm: []harm{kill, stop, cut}[rng.IntN(3)]}
		if rng.IntN(2) == 0 {
			f.server = member
		}
		if at+f.lasts < length && fits(faults, f) {
			faults = append(faults, f)
		}
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return faults
}

// fits reports whether f keeps enough servers well.
func fits(faults []fault, f fault) bool {
	limit, pause := illControllers, time.Duration(0)
	if f.server == member {
		limit, pause = illMembers, rest
	}
	ill := 0
	for _, other := range faults {
		if other.server != f.server || other.at+other.lasts+pause <= f.at {
			continue
		}
		if ill++; ill >= limit || other.index == f.index {
			return false
		}
	}
	return true
}
