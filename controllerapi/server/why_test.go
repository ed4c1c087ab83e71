package server

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

func TestWhyAnInstanceWaitsAtAnyController(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	first, second := c.controllers[0], c.controllers[1]
	id := mustStart(t, first, api.StartRequest{Priority: new(7)})
	why, err := second.client().Why(t.Context(), id)
	if err != nil || why.Cause != api.CauseNoNodes || why.State != api.Scheduling || why.Place != 1 || why.Waiting != 1 || why.Priority != 7 {
		t.Errorf("got %+v, %v", why, err)
	}
	newNode(t, "n1", c.controllers...).register()
	why, err = second.client().Why(t.Context(), id)
	if err != nil || why.Cause != api.CauseFits || why.Fit.Count != 1 || why.Fit.IDs[0] != "n1" {
		t.Errorf("with a node: %+v, %v", why, err)
	}

	ask := func(req api.StartRequest) (api.Why, error) { return first.client().WhyNot(t.Context(), req) }
	why, err = ask(api.StartRequest{VMID: "tpl-1", NodeID: "n1", USBDevice: "phones"})
	if err != nil || why.Cause != api.CauseUSB || why.Place != 2 || why.InstanceID != "" {
		t.Errorf("a request for a device: %+v, %v", why, err)
	}
	if _, err := ask(api.StartRequest{VMID: "none"}); !errors.Is(err, api.ErrNoSuchTemplate) {
		t.Errorf("a request for no template: %v", err)
	}
	if list, err := first.client().Instances(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("to ask has started something: %d instances, %v", len(list), err)
	}
	if _, err := first.client().Why(t.Context(), "none"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("an instance that is not there: %v", err)
	}
	if code, body := do(t, http.MethodGet, first.URL+api.PathWhy, ""); code != http.StatusOK || !strings.Contains(body, "id is required") {
		t.Errorf("without an id: %d %s", code, body)
	}
}
