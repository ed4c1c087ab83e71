package agent

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Cloud is the agent wire of the controllers, as *controllerapi.Client has it.
// Every call may be repeated.
type Cloud interface {
	Register(context.Context, controllerapi.RegisterRequest) (controllerapi.RegisterResponse, error)
	Sync(context.Context, controllerapi.SyncRequest) (controllerapi.SyncResponse, error)
	Reserve(context.Context, controllerapi.ReserveRequest) (controllerapi.ReserveResponse, error)
	Report(context.Context, controllerapi.ReportRequest) (controllerapi.ReportResponse, error)
}

// Host is the machine under the agent.
type Host interface {
	images.Host
	// Address returns the address that the node reaches the network from.
	Address() string
}

// Registry is the node's way to the registries.
type Registry interface {
	images.Registry
	// URL is the address of the way to the node's own registries, for people.
	URL() string
	// Latest returns the newest tag of a template, "" when there is no such
	// template. Revert removes a tag with all later ones; one that is not there is
	// removed. Both are of the registries that Open is given, the node's own for
	// none.
	Latest(ctx context.Context, registries []string, id controllerapi.TemplateID) (tag string, err error)
	Revert(ctx context.Context, registries []string, id controllerapi.TemplateID, tag string) error
}

// Deps are what an Agent works with. All are needed, but OnCluster and Pools.
type Deps struct {
	Cloud    Cloud
	Runtime  hypervisor.Runtime
	Host     Host
	Registry Registry
	// Identity distinguishes this host from others that have a copy of its state.
	Identity controllerapi.HostIdentity
	// OnCluster is called with the servers that the cloud announces.
	OnCluster func(controllerapi.Cluster)
	// Pools returns what is known of the servers, for the heartbeat; the agent adds
	// what it counts itself. It may be nil.
	Pools func() controllerapi.NodeNumbers
	// Upgrade replaces the agent's program; nil refuses upgrades.
	Upgrade Upgrader
	// Caffeinate is the command that keeps the host awake; "" on hosts without it.
	Caffeinate string
	Metrics    prometheus.Registerer
	Log        *zap.Logger
}
