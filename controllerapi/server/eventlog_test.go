package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/faultnet"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestEventsReachTheirReceiverOnceForTheCloud(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]map[string]bool{} // the events' ids: one whose answer was late comes again
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ev api.Event
		if err := json.NewDecoder(r.Body).Decode(&ev); err != nil || ev.ID == "" || ev.Time.IsZero() {
			t.Errorf("event %+v: %v", ev, err)
		}
		mu.Lock()
		defer mu.Unlock()
		kind := ev.Type + " " + ev.Event
		if got[kind] == nil {
			got[kind] = map[string]bool{}
		}
		got[kind][ev.ID] = true
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
			if len(got[w]) == 0 {
				return false
			}
		}
		return true
	})
	mu.Lock()
	defer mu.Unlock()
	for _, w := range want {
		if len(got[w]) != 1 {
			t.Errorf("%s came %d times", w, len(got[w]))
		}
	}
}

// What waits when the controller is told to end is sent all the same.
func TestEventsThatWaitAreSentAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := faultnet.New()
		ln, err := network.Listen("registry:80")
		if err != nil {
			t.Fatal(err)
		}
		arrived, answer := make(chan string, 3), make(chan struct{})
		receiver := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var ev api.Event
			if err := json.NewDecoder(r.Body).Decode(&ev); err != nil {
				t.Error(err)
			}
			arrived <- ev.Event
			<-answer
		})}
		var wg sync.WaitGroup
		wg.Go(func() { _ = receiver.Serve(ln) })
		transport := &http.Transport{DialContext: network.DialContext}
		log := newEventLog(Config{ID: "x", RegistryURL: "http://registry", EnableEventLogging: true, RegistryHTTP: &http.Client{Transport: transport}}, zap.NewNop())
		ctx, end := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { log.run(ctx) })
		for _, kind := range []string{"first", "second", "third"} {
			log.system(kind, nil)
		}
		if got := <-arrived; got != "first" {
			t.Errorf("the first is %s", got)
		}
		end()
		synctest.Wait()
		close(answer)
		run.Wait()
		transport.CloseIdleConnections()
		_ = receiver.Close()
		wg.Wait()
		close(arrived)
		var rest []string
		for kind := range arrived {
			rest = append(rest, kind)
		}
		if !slices.Equal(rest, []string{"second", "third"}) {
			t.Errorf("after the end: %v", rest)
		}
	})
}

// The URL of a receiver may carry what lets one write there.
func TestSecretsOfAnEventReceiverAreNotLogged(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(nil)
	receiver.Close() // refuses
	core, logs := observer.New(zap.DebugLevel)
	log := newEventLog(Config{ID: "x", EventLogURL: strings.Replace(receiver.URL, "//", "//user:hunter2@", 1) + "/log?token=hunter3"}, zap.New(core))
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { log.run(ctx) })
	log.system("anything", nil)
	eventually(t, "the failure is logged", func() bool { return logs.FilterMessage("event not delivered").Len() > 0 })
	end()
	wg.Wait()
	for _, line := range logs.All() {
		if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "hunter") {
			t.Errorf("logged: %s", text)
		}
	}
}
