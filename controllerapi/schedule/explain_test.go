package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// alone returns which of the tasks the node is given when it asks for work, and no
// other node does.
func alone(tasks []*Task, n *Node, all []*Node) string {
	asks := *n
	asks.USB = map[string]int{"d": n.USB["d"]}
	others := slices.Clone(all)
	others[slices.Index(all, n)] = &asks
	matches, _ := Assign(config, tasks, []*Node{&asks}, others, now)
	if len(matches) == 0 {
		return ""
	}
	return matches[0].Task
}

// Explain names a node as one that can take the task exactly when placement would give
// it the task; and when it would give it one that goes before, it counts that one.
func TestExplainNamesTheNodesThatPlacementWouldUse(t *testing.T) {
	given, before, refused := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tasks, _, all := cloudGen(t)
		for k, x := range tasks {
			e := Explain(config, x, tasks, all, now)
			if e.Place != k+1 || e.Waiting != len(tasks) {
				t.Fatalf("%s has place %d of %d, want %d of %d", x.ID, e.Place, e.Waiting, k+1, len(tasks))
			}
			seen := 0
			for rule, nodes := range e.Excluded {
				seen += len(nodes)
				for _, n := range nodes {
					can, got := Rule(rule) == None, alone(tasks[:k+1], n, all)
					switch {
					case got == x.ID && !can, got == "" && can:
						t.Fatalf("%s is given %q, and %s is kept from it by rule %d", n.ID, got, x.ID, rule)
					case got == x.ID:
						given++
					case got != "" && can && e.Before == 0:
						t.Fatalf("%s is given %s first, of which %s is not told", n.ID, got, x.ID)
					case got != "" && can:
						before++
					default:
						refused++
					}
				}
			}
			if seen != len(all) {
				t.Fatalf("%d of %d nodes are told of", seen, len(all))
			}
		}
	})
	if given == 0 || before == 0 || refused == 0 {
		t.Errorf("the draws had %d placements, %d that others went before and %d refusals: all are to be there", given, before, refused)
	}
}

// A request that is not in the queue is told of as the instance would be.
func TestExplainOfARequestIsThatOfItsInstance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks, _, all := cloudGen(t)
		k := rapid.IntRange(0, len(tasks)-1).Draw(t, "which")
		with := Explain(config, tasks[k], tasks, all, now)
		without := Explain(config, tasks[k], slices.Delete(slices.Clone(tasks), k, k+1), all, now)
		if fmt.Sprint(with) != fmt.Sprint(without) {
			t.Fatalf("in the queue %+v, beside it %+v", with, without)
		}
	})
}

func TestExplain(t *testing.T) {
	big := func(t *Task) { t.Created, t.Need = now.Add(-config.HoldAfter), Size{VMs: 2} }
	for _, tc := range []struct {
		name  string
		nodes []*Node
		task  func(*Task)
		ahead []*Task
		want  map[Rule]string // the nodes of each rule
		check func(e Explanation) bool
	}{
		{"what a node is goes before how it is", []*Node{
			node("intel", 2, func(n *Node) { n.Arch, n.Accepting = "amd64", false }),
			node("drains", 2, func(n *Node) { n.Accepting = false }),
			node("full", 1, func(n *Node) { n.Used.VMs = 1 }),
		}, nil, nil, map[Rule]string{Arch: "intel", Inactive: "drains", Room: "full"}, nil},
		{"pinned", []*Node{node("a", 1, nil), node("b", 1, func(n *Node) { n.Accepting = false })},
			func(t *Task) { t.Node = "b" }, nil, map[Rule]string{Pinned: "a", Inactive: "b"}, nil},
		{"too large", []*Node{node("a", 1, nil)}, func(t *Task) { t.Need.VMs = 2 }, nil, map[Rule]string{TooLarge: "a"}, nil},
		{"devices in use", []*Node{node("a", 1, func(n *Node) { n.USB = map[string]int{"d": 0} }), node("b", 1, nil)},
			func(t *Task) { t.USB = "d" }, nil, map[Rule]string{USB: "b", USBBusy: "a"}, nil},
		{"handed back", []*Node{node("a", 1, nil)}, func(t *Task) { t.Avoid = map[string]time.Time{"a": now.Add(1)} }, nil,
			map[Rule]string{Avoided: "a"}, nil},
		{"the group has room", []*Node{node("g", 1, func(n *Node) { n.Groups = []string{"g"} }), node("f", 1, func(n *Node) { n.Groups = []string{"f"} })},
			func(t *Task) { t.Groups = []string{"g", "f"} }, nil, map[Rule]string{None: "g", Fallback: "f"}, nil},
		{"kept for the template", []*Node{node("has", 1, func(n *Node) { n.Images[img] = true }), node("lacks", 1, nil)},
			func(t *Task) { t.Created = now }, nil, map[Rule]string{None: "has", OtherHasImage: "lacks"},
			func(e Explanation) bool { return e.Until.Equal(now.Add(config.ImageWait)) }},
		{"a node is kept for it", []*Node{node("a", 2, func(n *Node) { n.Used.VMs = 1 })}, big, nil, map[Rule]string{Room: "a"},
			func(e Explanation) bool { return e.Kept == "a" && e.KeptSince.Equal(now) }},
		{"the node is kept for another", []*Node{node("a", 2, func(n *Node) { n.Used.VMs = 1 })}, nil, []*Task{task("0", big)},
			map[Rule]string{Held: "a"}, func(e Explanation) bool { return e.Kept == "" && e.Place == 2 }},
		{"another goes before", []*Node{node("a", 3, nil)}, nil, []*Task{task("0", nil)}, map[Rule]string{None: "a"},
			func(e Explanation) bool { return e.Before == 1 && e.Slots == 3 }},
	} {
		x := task("t", tc.task)
		queue := append(tc.ahead, x)
		slices.SortFunc(queue, Compare)
		e := Explain(config, x, queue, tc.nodes, now)
		for rule := range rules {
			var ids string
			for _, n := range e.Excluded[rule] {
				ids += n.ID
			}
			if ids != tc.want[rule] {
				t.Errorf("%s: rule %d has %q, want %q", tc.name, rule, ids, tc.want[rule])
			}
		}
		if tc.check != nil && !tc.check(e) {
			t.Errorf("%s: got %+v", tc.name, e)
		}
	}
}

func BenchmarkExplain(b *testing.B) {
	for _, waiting := range []int{1, 1000} {
		b.Run(fmt.Sprintf("tasks=%d/nodes=10000", waiting), func(b *testing.B) {
			var tasks []*Task
			for k := range waiting {
				tasks = append(tasks, task(fmt.Sprintf("%05d", k), func(t *Task) { t.Created = now.Add(-time.Hour) }))
			}
			var nodes []*Node
			for k := range 10000 {
				nodes = append(nodes, node(fmt.Sprint(k), 2, func(n *Node) { n.Used.VMs = 2 * (k % 2); n.Groups = []string{"g"} }))
			}
			b.ReportAllocs()
			for b.Loop() {
				Explain(config, tasks[waiting-1], tasks, nodes, now)
			}
		})
	}
}
