package history

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Problem is a part of the recording that no single machine could have produced.
type Problem struct {
	Key      string
	Instance controllerapi.InstanceID
	Detail   string
	// Operations are the instance's, in the order of their calls.
	Operations []string
	picture    func(path string) error
}

func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "key %s, instance %s: %s", p.Key, p.Instance, p.Detail)
	for _, o := range p.Operations {
		b.WriteString("\n    " + o)
	}
	return b.String()
}

// Draw writes a picture of the problem, as an HTML page below dir, and returns
// its path; "" when there is nothing to draw.
func (p Problem) Draw(dir string) (string, error) {
	if p.picture == nil {
		return "", nil
	}
	path := filepath.Join(dir, string(p.Instance)+".html")
	return path, p.picture(path)
}

// problem is a suspicion that the end of the recording confirms or clears.
type problem struct {
	key   string
	id    controllerapi.InstanceID
	at    Moment
	where string
}

// Stats say how much was checked.
type Stats struct {
	Keys, Instances, Operations int
}

// Check checks the whole recording, for at most about limit; what could not be
// decided in that time is a problem too. It must not run beside recording.
func (r *Recorder) Check(limit time.Duration) ([]Problem, Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byKey, problems := r.checkKeysLocked()
	stats := Stats{Keys: len(r.creates)}

	deadline := time.Now().Add(limit)
	for _, key := range slices.Sorted(mapKeys(byKey)) {
		for _, id := range byKey[key] {
			ops := r.instanceOpsLocked(r.creates[key], id)
			stats.Instances++
			stats.Operations += len(ops)
			if p, bad := checkInstance(key, id, ops, time.Until(deadline)); bad {
				problems = append(problems, p)
			}
		}
	}
	return problems, stats
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// checkKeysLocked compares all answers to each key and returns the instances of
// each key that was answered.
func (r *Recorder) checkKeysLocked() (map[string][]controllerapi.InstanceID, []Problem) {
	var problems []Problem
	byKey := make(map[string][]controllerapi.InstanceID)
	owner := make(map[controllerapi.InstanceID]string)
	for key, c := range r.creates {
		for _, a := range c.answers {
			if byKey[key] == nil {
				byKey[key] = a.ids
			}
			if !slices.Equal(byKey[key], a.ids) {
				problems = append(problems, Problem{Key: key, Detail: fmt.Sprintf("answered with %v and with %v", byKey[key], a.ids)})
			}
		}
		for _, id := range byKey[key] {
			if other, taken := owner[id]; taken {
				problems = append(problems, Problem{Key: key, Instance: id, Detail: "belongs to key " + other + " too"})
			}
			owner[id] = key
		}
	}
	told := make(map[controllerapi.InstanceID]bool)
	for _, f := range r.foreign {
		if owner[f.id] == f.key || told[f.id] {
			continue
		}
		if byKey[f.key] == nil {
			continue // created, though its caller never got an answer: it may
		}
		told[f.id] = true
		problems = append(problems, Problem{Key: f.key, Instance: f.id,
			Detail: fmt.Sprintf("%s listed it at %s, but the key was answered with %v", f.where, time.Duration(f.at).Round(time.Millisecond), byKey[f.key])})
	}
	return byKey, problems
}

// instanceOpsLocked gathers all operations on an instance, with what each list
// showed of it as a read.
func (r *Recorder) instanceOpsLocked(c *created, id controllerapi.InstanceID) []op {
	ret := never
	for _, a := range c.answers {
		ret = min(ret, a.ret)
	}
	ops := append([]op{{kind: opCreate, call: c.first, ret: ret, where: "key " + c.key}}, r.ops[id]...)
	// Once a reader has seen that it is gone, further absences say nothing new.
	goneAt := never
	for _, o := range ops {
		if o.kind == opRead && o.state == "" && o.call > ret {
			goneAt = min(goneAt, o.ret)
		}
	}
	for _, l := range r.lists {
		state, shown := l.states[id]
		if !shown && (l.ret < c.first || l.call > goneAt) {
			continue
		}
		if !shown && l.call > ret {
			goneAt = min(goneAt, l.ret)
		}
		ops = append(ops, op{kind: opRead, call: l.call, ret: l.ret, where: l.where, state: state})
	}
	slices.SortStableFunc(ops, func(a, b op) int { return int(min(max(a.call-b.call, -1), 1)) })
	return ops
}

// checkInstance asks porcupine for an order of the operations.
func checkInstance(key string, id controllerapi.InstanceID, ops []op, limit time.Duration) (Problem, bool) {
	operations := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		operations[i] = porcupine.Operation{ClientId: i % 64, Input: o, Call: int64(o.call), Return: int64(o.ret)}
	}
	result, info := porcupine.CheckOperationsVerbose(instanceModel, operations, max(limit, time.Millisecond))
	if result == porcupine.Ok {
		return Problem{}, false
	}
	p := Problem{Key: key, Instance: id, Detail: "no order of its operations makes sense",
		picture: func(path string) error { return porcupine.VisualizePath(instanceModel, info, path) }}
	if result == porcupine.Unknown {
		p.Detail = "no time was left to decide"
	}
	for _, o := range ops {
		end := "..."
		if o.ret != never {
			end = time.Duration(o.ret).Round(time.Millisecond).String()
		}
		p.Operations = append(p.Operations, fmt.Sprintf("%s to %s: %s", time.Duration(o.call).Round(time.Millisecond), end, o))
	}
	return p, true
}
