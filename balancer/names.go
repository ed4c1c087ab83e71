package balancer

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/balancer/download"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// Names of the rooms below that users of a pool meet.
type (
	// Origin says where an address came from.
	Origin = endpoint.Origin
	// Class says what kind of traffic a balancer carries.
	Class = attempt.Class
	// RetryConfig bounds and paces repeats.
	RetryConfig = attempt.RetryConfig
	// HedgeConfig says when a second copy of a request is sent.
	HedgeConfig = route.HedgeConfig
	// StallConfig is about answers whose length is known and that are not read ahead.
	StallConfig = attempt.StallConfig
	// PassError is the error of a request that no endpoint could answer, with what each one
	// answered.
	PassError = attempt.PassError
	// AttemptError is what one endpoint said.
	AttemptError = attempt.AttemptError
	// EndpointStatus is one endpoint's part of Status.
	EndpointStatus = endpoint.Status
	// BreakerConfig says when failures of real traffic take an endpoint out.
	BreakerConfig = endpoint.BreakerConfig
	// State is what the balancer believes about an endpoint.
	State = health.State
	// Transition is one change of an endpoint's state.
	Transition = health.Transition
	// ProbeConfig is the active health check.
	ProbeConfig = health.ProbeConfig
	// SlowConfig says when an endpoint is late beside its peers.
	SlowConfig = health.SlowConfig
	// Rhythm is when endpoints that are well are probed.
	Rhythm = health.Rhythm
)

// The classes of traffic.
const (
	Control = attempt.Control
	Blob    = attempt.Blob
)

// Errors of a request, for errors.Is.
var (
	ErrNoEndpoints = attempt.ErrNoEndpoints
	ErrAllDown     = attempt.ErrAllDown
	ErrBudget      = attempt.ErrBudget
	ErrBodyOnce    = attempt.ErrBodyOnce
	ErrBody        = attempt.ErrBody
)

// ErrDigest: a download's bytes are not those that its digest names.
var ErrDigest = download.ErrDigest

// IdempotencyHeader marks a write that the server runs once however often it arrives.
const IdempotencyHeader = attempt.IdempotencyHeader

// The origins of an address.
const (
	OriginJoin    = endpoint.OriginJoin
	OriginLearned = endpoint.OriginLearned
	OriginCached  = endpoint.OriginCached
)

// The states of an endpoint.
const (
	Unknown  = health.Unknown
	Healthy  = health.Healthy
	Ejected  = health.Ejected
	Down     = health.Down
	Draining = health.Draining
)

// ParseEndpoint checks an endpoint's address and brings it into its one spelling: http or
// https, a host, a lower-case name, no query, no slash at the end.
func ParseEndpoint(raw string) (*url.URL, error) { return endpoint.Parse(raw) }

// Repeatable reports whether a server may receive req twice without harm: reading methods,
// and writes with an Idempotency-Key.
func Repeatable(req *http.Request) bool { return attempt.Repeatable(req) }

// ServedBy returns the URL of the endpoint that gave resp, or "" if no balancer did.
func ServedBy(resp *http.Response) string { return attempt.ServedBy(resp) }

// WithPrefer asks that a request's first attempt go to the endpoint with this URL as long
// as it is usable, as the steps of one upload must.
func WithPrefer(ctx context.Context, endpoint string) context.Context {
	return attempt.WithPrefer(ctx, endpoint)
}

// WithPatience bounds how long Client waits for an endpoint that can answer, in place of
// Retry.MaxElapsed. Unlike a deadline it does not end the reading of an answer.
func WithPatience(ctx context.Context, d time.Duration) context.Context {
	return attempt.WithPatience(ctx, d)
}

// WithWait declares that the server may hold the request for up to d before it answers (a
// long poll). It is then neither hedged nor called late before d has passed. A "Prefer:
// wait=SECONDS" header (RFC 7240) does the same.
func WithWait(ctx context.Context, d time.Duration) context.Context {
	return attempt.WithWait(ctx, d)
}

// WithHedgeAfter bounds from below when a copy of the request may be sent to another
// endpoint for want of an answer. It is for what a fleet sends by the clock: where servers
// are late for all, copies make them later.
func WithHedgeAfter(ctx context.Context, d time.Duration) context.Context {
	return attempt.WithHedgeAfter(ctx, d)
}
