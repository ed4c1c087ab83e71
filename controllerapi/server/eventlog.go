package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/httpapi"
	"github.com/google/uuid"
	"go.uber.org/zap"
)

const (
	// eventQueue bounds what waits for a receiver that does not answer; what is
	// over it is dropped and counted, because calls must not wait.
	eventQueue   = 4096
	eventTimeout = 5 * time.Second
	eventTries   = 5
	// eventLogPath takes events for the registry's central log, one POST each.
	eventLogPath = "/registry/log-event"
)

// eventLog sends events to their receivers, each at its own pace.
type eventLog struct {
	controller string
	log        *zap.Logger
	sinks      []*eventSink
}

// eventSink is one receiver.
type eventSink struct {
	url     string
	http    *http.Client
	queue   chan api.Event // capacity eventQueue
	dropped atomic.Int64
}

func newEventLog(cfg Config, log *zap.Logger) *eventLog {
	e := &eventLog{controller: cfg.ID, log: log}
	add := func(url string, hc *http.Client) {
		if hc == nil {
			hc = &http.Client{Timeout: eventTimeout}
		}
		e.sinks = append(e.sinks, &eventSink{url: url, http: hc, queue: make(chan api.Event, eventQueue)})
	}
	if cfg.EventLogURL != "" {
		add(cfg.EventLogURL, nil)
	}
	if cfg.EnableEventLogging && cfg.registry() != "" {
		add(strings.TrimRight(cfg.registry(), "/")+eventLogPath, cfg.RegistryHTTP)
	}
	return e
}

// api notes what a caller of the API has done.
func (e *eventLog) api(r *http.Request, kind string, facts map[string]any) {
	if len(e.sinks) > 0 {
		e.add(api.Event{Type: api.EventAPIAction, Event: kind, RequestID: httpapi.RequestID(r.Context()), Facts: facts})
	}
}

// system notes what the cloud has done.
func (e *eventLog) system(kind string, facts map[string]any) {
	e.log.Info("event", zap.String("event", kind), zap.Any("facts", facts))
	if len(e.sinks) > 0 {
		e.add(api.Event{Type: api.EventSystemAction, Event: kind, Facts: facts})
	}
}

func (e *eventLog) add(ev api.Event) {
	ev.ID, ev.Time, ev.Controller = uuid.NewString(), time.Now().UTC(), e.controller
	for _, s := range e.sinks {
		select {
		case s.queue <- ev:
		default:
			s.dropped.Add(1)
		}
	}
}

// run sends events until ctx ends.
func (e *eventLog) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range e.sinks {
		wg.Go(func() { s.run(ctx, e.log) })
	}
	wg.Wait()
}

func (s *eventSink) run(ctx context.Context, log *zap.Logger) {
	failing := false
	for {
		select {
		case ev := <-s.queue:
			err := s.send(ctx, ev)
			if err != nil && !failing {
				log.Warn("event not delivered", zap.String("url", s.url), zap.Error(err))
			}
			failing = err != nil
			if err != nil {
				s.dropped.Add(1)
			}
		case <-ctx.Done():
			return
		}
	}
}

// send posts one event, a few times if need be.
func (s *eventSink) send(ctx context.Context, ev api.Event) error {
	data, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		if err = s.post(ctx, data); err == nil || try == eventTries {
			return err
		}
		select {
		case <-time.After(wait):
			wait *= 3
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *eventSink) post(ctx context.Context, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode >= 300 {
		return fmt.Errorf("the receiver answered %s", resp.Status)
	}
	return nil
}
