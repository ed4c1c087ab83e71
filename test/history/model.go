package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// state is one instance as the cloud must remember it.
//
//	(none) --create--> waiting --claim, done--> started
//	waiting, started --terminate--> terminating --> terminated --> gone
type state struct {
	exists  bool
	holder  controllerapi.NodeID // of the newest claim
	attempt int
	started bool
	// end is how far the instance's end has been seen: nothing undoes it.
	end ending
}

type ending int

const (
	alive ending = iota
	terminating
	terminated
	gone
)

// instanceModel is the sequential machine that the cloud has to look like, for
// one instance.
var instanceModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(s, input, _ any) []any {
		before, o := s.(state), input.(op)
		after, ok := step(before, o)
		switch {
		case ok && o.unsure:
			return []any{before, after}
		case ok:
			return []any{after}
		case o.unsure:
			return []any{before}
		}
		return nil
	},
	DescribeOperation: func(input, _ any) string { return input.(op).String() },
	DescribeState:     func(s any) string { return fmt.Sprint(s) },
}).ToModel()

// step applies an operation that happened, or reports that it cannot have.
func step(s state, o op) (state, bool) {
	switch o.kind {
	case opCreate:
		if s.exists {
			return s, false
		}
		s.exists = true
		return s, true
	case opClaim:
		if !s.exists || s.started || s.end != alive || o.attempt < s.attempt {
			return s, false
		}
		if o.attempt == s.attempt && o.node != s.holder {
			return s, false // one attempt, two nodes
		}
		s.holder, s.attempt = o.node, o.attempt
		return s, true
	case opDone:
		if !s.exists || s.end != alive || o.node != s.holder || o.attempt != s.attempt {
			return s, false
		}
		s.started = true
		return s, true
	case opTerminate:
		if !s.exists {
			return s, false
		}
		s.end = max(s.end, terminating)
		return s, true
	}
	return read(s, o.state)
}

// read checks what a reader saw.
func read(s state, saw controllerapi.InstanceState) (state, bool) {
	switch saw {
	case "":
		if s.exists && s.end == alive {
			return s, false
		}
		if s.exists {
			s.end = gone
		}
		return s, true
	case controllerapi.Scheduling, controllerapi.Pulling:
		return s, s.exists && !s.started && s.end == alive
	case controllerapi.Started:
		return s, s.exists && s.started && s.end == alive
	case controllerapi.Terminating:
		return s, s.exists && s.end == terminating
	case controllerapi.Terminated:
		if !s.exists || s.end != terminating && s.end != terminated {
			return s, false
		}
		s.end = terminated
		return s, true
	}
	return s, false // nothing in a recording puts an instance into another state
}

func (o op) String() string {
	unsure := ""
	if o.unsure {
		unsure = " (no answer)"
	}
	switch o.kind {
	case opClaim, opDone:
		return fmt.Sprintf("%s %s attempt %d%s", o.kind, o.node, o.attempt, unsure)
	case opRead:
		saw := string(o.state)
		if saw == "" {
			saw = "not found"
		}
		return fmt.Sprintf("read by %s: %s", o.where, saw)
	}
	return fmt.Sprintf("%s by %s%s", o.kind, o.where, unsure)
}
