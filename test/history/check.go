package history

import (
	"cmp"
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

// Check checks the whole recording. An instance that takes longer than limit to
// decide is a problem too. It must not run beside recording.
func (r *Recorder) Check(limit time.Duration) ([]Problem, Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byKey, problems := r.checkKeysLocked()
	stats := Stats{Keys: len(r.creates)}
	lists := sorted(r.lists)
	for _, key := range slices.Sorted(mapKeys(byKey)) {
		for _, id := range byKey[key] {
			ops := r.instanceOpsLocked(r.creates[key], id, lists)
			stats.Instances++
			stats.Operations += len(ops)
			if p, bad := checkInstance(key, id, ops, limit); bad {
				problems = append(problems, p)
			}
		}
	}
	return problems, stats
}

// sortedLists are all lists in the order of their calls, so that what they say of
// one instance is found without a look at each of them.
type sortedLists struct {
	lists   []list
	longest Moment // that a list took
	shown   map[controllerapi.InstanceID][]int
}

func sorted(lists []list) sortedLists {
	s := sortedLists{lists: slices.Clone(lists), shown: make(map[controllerapi.InstanceID][]int)}
	slices.SortStableFunc(s.lists, func(a, b list) int { return cmp.Compare(a.call, b.call) })
	for i, l := range s.lists {
		s.longest = max(s.longest, l.ret-l.call)
		for id := range l.states {
			s.shown[id] = append(s.shown[id], i)
		}
	}
	return s
}

// reads are what the lists say of an instance that was created between first and
// ret, and was not found by a reader who was answered at goneAt: every state that
// they show, and that it is missing from when it may have been there until the
// first reader has missed it.
func (s sortedLists) reads(id controllerapi.InstanceID, first, ret, goneAt Moment) []op {
	var ops []op
	add := func(l list) {
		ops = append(ops, op{kind: opRead, call: l.call, ret: l.ret, where: l.where, state: l.states[id]})
	}
	for _, i := range s.shown[id] {
		add(s.lists[i])
	}
	begin, _ := slices.BinarySearchFunc(s.lists, first-s.longest, func(l list, at Moment) int { return cmp.Compare(l.call, at) })
	for _, l := range s.lists[begin:] {
		if l.call > goneAt {
			break
		}
		if _, shown := l.states[id]; shown || l.ret < first {
			continue
		}
		if l.call > ret {
			goneAt = min(goneAt, l.ret)
		}
		add(l)
	}
	return ops
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
func (r *Recorder) instanceOpsLocked(c *created, id controllerapi.InstanceID, lists sortedLists) []op {
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
	ops = append(ops, lists.reads(id, c.first, ret, goneAt)...)
	slices.SortStableFunc(ops, func(a, b op) int { return cmp.Compare(a.call, b.call) })
	return ops
}

// checkInstance asks porcupine for an order of the operations.
func checkInstance(key string, id controllerapi.InstanceID, ops []op, limit time.Duration) (Problem, bool) {
	operations := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		operations[i] = porcupine.Operation{ClientId: i % 64, Input: o, Call: int64(o.call), Return: int64(o.ret)}
	}
	result, info := porcupine.CheckOperationsVerbose(instanceModel, operations, limit)
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
