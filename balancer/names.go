package balancer

import (
	"net/url"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// Names of the rooms below that users of a pool meet.
type (
	// Origin says where an address came from.
	Origin = endpoint.Origin
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
