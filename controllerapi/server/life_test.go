package server

import (
	"errors"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
)

func TestInstanceLivesAndEndsAcrossControllers(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	a, b := c.controllers[0].client(), c.controllers[1].client()
	n := newNode(t, "n1", c.controllers...)
	reg := n.register()
	if reg.Settings.MaxVMCount != 2 || reg.Cluster.CloudID == "" {
		t.Fatalf("register answered %+v", reg)
	}
	ids, err := a.Start(t.Context(), api.StartRequest{VMID: "tpl-1", Name: "one", ExternalID: "x1"})
	if err != nil || len(ids) != 1 {
		t.Fatalf("start: %v %v", ids, err)
	}
	id := ids[0]
	got, err := b.Instance(t.Context(), id)
	if err != nil || got.InstanceState != api.Scheduling || got.Tag != "v2" || got.Arch != "arm64" || got.ExternalID != "x1" {
		t.Fatalf("first read through another controller: %+v %v", got, err)
	}
	task := n.reserve(api.TaskStart)
	if task.InstanceID != id || task.Start.Template.Digest != "sha256:2" || task.Start.Request.Name != "one" {
		t.Fatalf("task %+v", task)
	}
	if n.start(task) {
		t.Fatal("start was abandoned")
	}
	n.sync()
	got, err = b.Instance(t.Context(), id)
	if err != nil || got.InstanceState != api.Started || got.VMInfo == nil || got.NodeID != "n1" {
		t.Fatalf("after start: %+v %v", got, err)
	}
	if err := b.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, _ := a.Instance(t.Context(), id); got.InstanceState != api.Terminating {
		t.Fatalf("after terminate: %s", got.InstanceState)
	}
	n.terminate(n.reserve(api.TaskTerminate))
	if got, _ := a.Instance(t.Context(), id); got.InstanceState != api.Terminated {
		t.Fatalf("after its report: %s", got.InstanceState)
	}
	if err := a.Terminate(t.Context(), id); err != nil {
		t.Fatalf("second terminate: %v", err)
	}
	c.pass(c.controllers[0].cfg.InstanceTimeOut)
	eventually(t, "the instance is out of the list", func() bool {
		_, err := a.Instance(t.Context(), id)
		return errors.Is(err, api.ErrNotFound)
	})
	list, err := b.Instances(t.Context())
	if err != nil || len(list) != 0 {
		t.Fatalf("list %v %v", list, err)
	}
}

// A build number may be larger than what a float64 holds.
func TestMetadataKeepsEveryDigit(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	const want = `"metadata":{"build":9007199254740993,"least":-9223372036854775808,"on":true,"who":"ci"}`
	id := ""
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/api/v1/vm", `{"vmid":"tpl-1",` + want + `}`},
		{"PUT", "/api/v1/vm?id=", `{` + want + `}`},
	} {
		_, answer := do(t, call.method, c.controllers[0].URL+call.path+id, call.body)
		if id == "" {
			id = uuids.FindString(answer)
		}
		for _, path := range []string{"/api/v1/vm", "/api/v1/vm?id=" + id} {
			if _, got := do(t, "GET", c.controllers[0].URL+path, ""); !strings.Contains(got, want) {
				t.Errorf("%s after %s %s: %s", path, call.method, answer, got)
			}
		}
	}
	for _, bad := range []string{`1.5`, `1e3`, `9223372036854775808`, `null`, `[1]`} {
		if _, got := do(t, "PUT", c.controllers[0].URL+"/api/v1/vm?id="+id, `{"metadata":{"a":`+bad+`}}`); !strings.Contains(got, `"FAIL"`) {
			t.Errorf("%s is taken: %s", bad, got)
		}
	}
}

func TestReservationRepeatedAtAnotherControllerReturnsTheSameTask(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	ids, err := c.controllers[0].client().Start(t.Context(), api.StartRequest{VMID: "tpl-1", Count: new(2)})
	if err != nil || len(ids) != 2 {
		t.Fatal(ids, err)
	}
	rid := uuid.NewString()
	var first *api.Task
	for range 6 {
		task, err := n.tryReserve(t.Context(), rid, maxReserveWait)
		if err != nil || task == nil {
			t.Fatalf("reserve: %v %v", task, err)
		}
		if first == nil {
			first = task
		}
		if task.ID != first.ID || task.Start == nil {
			t.Fatalf("repeat returned %s, first was %s", task.ID, first.ID)
		}
	}
}

func TestReadinessAndClusterList(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	for _, ctl := range c.controllers {
		eventually(t, "it is ready", func() bool { code, _ := do(t, "GET", ctl.URL+"/readyz", ""); return code == 200 })
		eventually(t, "both controllers and the registry are listed", func() bool {
			cl, err := ctl.client().Cluster(t.Context())
			return err == nil && len(cl.Controllers) == 2 && len(cl.Registries) == 1 && cl.Registries[0].Version == "test"
		})
	}
	if err := c.controllers[0].Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _ := do(t, "GET", c.controllers[0].URL+"/readyz", ""); code != 503 {
		t.Errorf("readyz of a draining controller: %d", code)
	}
	eventually(t, "it is listed as draining", func() bool {
		states := map[string]string{}
		cl, err := c.controllers[1].client().Cluster(t.Context())
		for _, s := range cl.Controllers {
			states[s.URL] = s.State
		}
		return err == nil && states[c.controllers[0].URL] == api.ServerDraining && states[c.controllers[1].URL] == api.ServerReady
	})
	c.controllers[0].stop()
	eventually(t, "a controller that stopped is not listed", func() bool {
		cl, err := c.controllers[1].client().Cluster(t.Context())
		return err == nil && len(cl.Controllers) == 1
	})
}
