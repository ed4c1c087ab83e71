package balancer

import (
	"net/url"

	"github.com/ankacluster/ankacluster/balancer/health"
)

// Names of the rooms below that users of a pool meet.
type (
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
func ParseEndpoint(raw string) (*url.URL, error) { return parseAddress(raw) }
