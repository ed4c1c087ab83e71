package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

// drained is a controller of which only the drain is looked at.
type drained struct{ drain func() }

func (drained) Handler() http.Handler             { return http.NotFoundHandler() }
func (drained) Run(context.Context) error         { return nil }
func (d drained) Drain(ctx context.Context) error { d.drain(); return ctx.Err() }
func (drained) CloudID() string                   { return "" }

// The drain answers the long polls. Their connections must not be used again.
func TestConnectionsEndFromTheDrainOn(t *testing.T) {
	t.Parallel()
	log := zaptest.NewLogger(t)
	l, err := newListener("--listen-addr", "127.0.0.1:0", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.net.Close()
	p := &process{cfg: &config{GracefulShutdown: time.Minute}, log: log, api: l, drainRegistry: func() {}}
	told := false
	p.stop(t.Context(), drained{func() { told = l.leaving.Load() }}, func() {})
	if !told {
		t.Error("connections are kept while the controller drains")
	}
}

func TestQueueAddressServesWhatAgentsAskForAndNoMore(t *testing.T) {
	t.Parallel()
	h := nodesOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for path, want := range map[string]int{
		"/api/v1/agent/register": 200, "/api/v1/agent/reserve": 200, "/api/v1/status": 200, "/api/v1/cluster": 200,
		"/livez": 200, "/readyz": 200, "/pkg/AnkaAgentArm.pkg": 200,
		"/api/v1/vm": 404, "/api/v1/node": 404, "/api/v1/agents": 404, "/": 404,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
