package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

func TestEventsReachTheirReceiverOnceForTheCloud(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ev api.Event
		if err := json.NewDecoder(r.Body).Decode(&ev); err != nil || ev.ID == "" || ev.Time.IsZero() {
			t.Errorf("event %+v: %v", ev, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[ev.Type+" "+ev.Event]++
	}))
	t.Cleanup(receiver.Close)
	c := startCloud(t, 2, func(cfg *Config) { cfg.EventLogURL = receiver.URL })
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	if err := c.controllers[1].client().Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	n.terminate(n.reserve(api.TaskTerminate))
	want := []string{"apiAction StartVM", "apiAction TerminateVM", "systemAction VMStarted", "systemAction VMTerminated"}
	eventually(t, "all events have come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range want {
			if got[w] == 0 {
				return false
			}
		}
		return true
	})
	mu.Lock()
	defer mu.Unlock()
	for _, w := range want {
		if got[w] != 1 {
			t.Errorf("%s came %d times", w, got[w])
		}
	}
}
