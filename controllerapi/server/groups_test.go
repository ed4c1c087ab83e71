package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Names and fallbacks are checked against all groups, so a check on one
// controller must see what another has just done.
func TestGroupIsCheckedAgainstWhatOtherControllersDo(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	for round := range 15 {
		name := fmt.Sprintf("group-%d", round)
		answers := make([]string, len(c.controllers))
		var wg sync.WaitGroup
		for k, ctl := range c.controllers {
			wg.Go(func() { _, answers[k] = do(t, "POST", ctl.URL+"/api/v1/group", `{"name":"`+name+`"}`) })
		}
		wg.Wait()
		if made := strings.Count(strings.Join(answers, ""), `"OK"`); made != 1 {
			t.Fatalf("%d groups of the name %s: %v", made, name, answers)
		}
	}
}

func TestGroupNeverFallsBackToOneThatIsGone(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	a, b := c.controllers[0], c.controllers[1]
	group := func(ctl *controller, name, fallback string) (id string, ok bool) {
		_, body := do(t, "POST", ctl.URL+"/api/v1/group", `{"name":"`+name+`","fallback_group_id":"`+fallback+`"}`)
		_, rest, _ := strings.Cut(body, `"id":"`)
		id, _, _ = strings.Cut(rest, `"`)
		return id, strings.Contains(body, `"OK"`)
	}
	for round := range 15 {
		target, _ := group(a, fmt.Sprintf("target-%d", round), "")
		var wg sync.WaitGroup
		wg.Go(func() { do(t, "DELETE", a.URL+"/api/v1/group?id="+target, "") })
		wg.Go(func() { group(b, fmt.Sprintf("falls-%d", round), target) })
		wg.Wait()
		if _, list := do(t, "GET", b.URL+"/api/v1/group", ""); strings.Contains(list, target) {
			t.Fatalf("round %d: a group falls back to %s, which was deleted: %s", round, target, list)
		}
	}
}

func TestRemovedNodeJoinsNoGroup(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	a, b := c.controllers[0], c.controllers[1]
	_, body := do(t, "POST", a.URL+"/api/v1/group", `{"name":"g"}`)
	_, rest, _ := strings.Cut(body, `"id":"`)
	group, _, _ := strings.Cut(rest, `"`)
	for range 30 {
		n := newNode(t, "n1", a)
		n.register()
		if err := a.client().Unregister(t.Context(), api.UnregisterRequest{NodeID: n.id, Session: n.session}); err != nil {
			t.Fatal(err)
		}
		_, body := do(t, "POST", b.URL+"/api/v1/node/group", `{"group_ids":["`+group+`"],"node_ids":["n1"]}`)
		if !strings.Contains(body, "No such node n1") {
			t.Fatalf("after the node was removed at another controller: %s", body)
		}
	}
}
