package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/wire"
)

const (
	// eventQueue bounds what waits for a receiver that does not answer; what is
	// over it is dropped and counted, because calls must not wait.
	eventQueue = 4096
	// eventTimeout bounds one attempt to deliver an event.
	eventTimeout = 5 * time.Second
	eventTries   = 5
	// eventFlush is how long the end waits for events that have not been sent.
	eventFlush = 3 * time.Second
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
	shown   string // without what may be secret: user, password and query
	http    *retryablehttp.Client
	queue   chan api.Event // capacity eventQueue
	dropped atomic.Int64
}

func newEventLog(cfg Config, log *zap.Logger) *eventLog {
	e := &eventLog{controller: cfg.ID, log: log}
	add := func(to string, hc *http.Client) {
		if hc == nil {
			hc = &http.Client{CheckRedirect: wire.NoRedirect}
		}
		shown := ""
		if u, err := url.Parse(to); err == nil {
			shown = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
		}
		e.sinks = append(e.sinks, &eventSink{url: to, shown: shown, http: repeating(hc), queue: make(chan api.Event, eventQueue)})
	}
	if cfg.EventLogURL != "" {
		add(cfg.EventLogURL, cfg.EventHTTP)
	}
	if cfg.EnableEventLogging && cfg.registry() != "" {
		add(strings.TrimRight(cfg.registry(), "/")+eventLogPath, cfg.RegistryHTTP)
	}
	return e
}

// api notes what a caller of the API has done. An event of an anonymous caller has
// no user.
func (e *eventLog) api(r *http.Request, kind string, facts map[string]any) {
	if len(e.sinks) > 0 {
		e.add(api.Event{Type: api.EventAPIAction, Event: kind, User: access.From(r.Context()).Name, RequestID: wire.RequestID(r.Context()), Facts: facts})
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

// run sends events until ctx ends, and then what waits, for a moment.
func (e *eventLog) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range e.sinks {
		wg.Go(func() { s.run(ctx, e.log) })
	}
	wg.Wait()
}

func (s *eventSink) run(ctx context.Context, log *zap.Logger) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(eventFlush, cancel) })()
	failing := false
	deliver := func(ev api.Event) {
		err := s.send(sending, ev)
		if err != nil && !failing {
			log.Warn("event not delivered", zap.String("url", s.shown), zap.Error(err))
		}
		failing = err != nil
		if err != nil {
			s.dropped.Add(1)
		}
	}
	for ctx.Err() == nil {
		select {
		case ev := <-s.queue:
			deliver(ev)
		case <-ctx.Done():
		}
	}
	for {
		select {
		case ev := <-s.queue:
			deliver(ev)
		default:
			return
		}
	}
}

// eventPace is that of an event that its receiver did not take.
var eventPace = backoff.Pace{Min: 400 * time.Millisecond, Max: 4 * time.Second}

// repeating is hc for events: each is posted a few times if need be.
func repeating(hc *http.Client) *retryablehttp.Client {
	once := *hc
	once.Timeout = eventTimeout
	return &retryablehttp.Client{
		HTTPClient: &once,
		RetryMax:   eventTries - 1,
		CheckRetry: func(ctx context.Context, resp *http.Response, err error) (bool, error) {
			return ctx.Err() == nil && (err != nil || resp.StatusCode >= 300), nil
		},
		Backoff:      func(_, _ time.Duration, n int, _ *http.Response) time.Duration { return eventPace.Next(n) },
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// send posts one event.
func (s *eventSink) send(ctx context.Context, ev api.Event) error {
	data, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, s.url, data)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err // without the URL
	}
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
