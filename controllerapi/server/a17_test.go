package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A17: a change of many nodes' groups is made for all of them, or for none with
// FAIL.
func TestA17GroupChangeReachesAllNodesOrNone(t *testing.T) {
	c := startCloud(t, 2, nil)
	var ids []string
	for n := range 20 {
		id := fmt.Sprintf("n%02d", n)
		newNode(t, id, c.controllers...).register()
		ids = append(ids, id)
	}
	_, body := do(t, "POST", c.controllers[0].URL+"/api/v1/group", `{"name":"fast"}`)
	_, rest, ok := strings.Cut(body, `"id":"`)
	if !ok {
		t.Fatal(body)
	}
	group, _, _ := strings.Cut(rest, `"`)
	change := func(method string, nodes ...string) bool {
		t.Helper()
		_, body := do(t, method, c.controllers[0].URL+"/api/v1/node/group",
			`{"group_ids":["`+group+`"],"node_ids":["`+strings.Join(nodes, `","`)+`"]}`)
		return strings.Contains(body, `"OK"`)
	}
	members := func() (in []string) {
		nodes, err := c.controllers[1].client().Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if len(n.Groups) > 0 {
				in = append(in, string(n.NodeID))
			}
		}
		slices.Sort(in)
		return in
	}
	if change("POST", append([]string{"none"}, ids...)...) || change("POST", append(slices.Clone(ids), "none")...) {
		t.Error("a change that names an unknown node was taken")
	}
	if got := members(); len(got) != 0 {
		t.Errorf("a refused change was made for %v", got)
	}
	if !change("POST", ids...) {
		t.Fatal("the change was refused")
	}
	if got := members(); !slices.Equal(got, ids) {
		t.Errorf("in the group: %v, want all 20", got)
	}
	if !change("DELETE", ids[5:]...) {
		t.Fatal("the removal was refused")
	}
	if got := members(); !slices.Equal(got, ids[:5]) {
		t.Errorf("left in the group: %v, want the first five", got)
	}
}
