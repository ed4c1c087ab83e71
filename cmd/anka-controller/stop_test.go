package main

import (
	"context"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

// drained is a controller of which only the drain is looked at.
type drained struct{ drain func() }

func (drained) Handler() http.Handler             { return http.NotFoundHandler() }
func (drained) NodesHandler() http.Handler        { return http.NotFoundHandler() }
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
