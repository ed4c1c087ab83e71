package controllerapi

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// IdempotencyHeader carries a key under which a controller runs a write once
// and answers every repeat with the first answer, for 24 h.
const IdempotencyHeader = wire.IdempotencyHeader

// maxAnswer bounds what is read of an answer: the lists of ten thousand nodes are a
// quarter of it.
const maxAnswer = 256 << 20

type idempotencyKey struct{}

// WithIdempotencyKey returns a context whose one write call carries key instead
// of a new one, so that a caller that repeats the call itself, also after a
// restart, has one effect.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

// Client calls a controller. Every write carries an idempotency key, so that a
// balancing transport may repeat it elsewhere. It is safe for concurrent use.
type Client struct{ wire wire.Client }

// NewClient returns a client for the controller at base, for example
// "http://10.0.1.4:8090". With an *http.Client whose transport balances, base
// names the pool and the transport picks the endpoint.
func NewClient(base string, hc *http.Client) *Client {
	return &Client{wire.Client{Base: strings.TrimRight(base, "/"), HTTP: hc, Server: server, MaxAnswer: maxAnswer, Before: before}}
}

// Status returns the controller's own state and that of its registry.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/api/v1/status", nil)
}

// Cluster returns the servers of the cloud.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	return call[Cluster](ctx, c, http.MethodGet, "/api/v1/cluster", nil)
}

// Instances lists all instances.
func (c *Client) Instances(ctx context.Context) ([]ListedInstance, error) {
	return call[[]ListedInstance](ctx, c, http.MethodGet, "/api/v1/vm", nil)
}

// Instance returns one instance, or ErrNotFound.
func (c *Client) Instance(ctx context.Context, id InstanceID) (Instance, error) {
	return call[Instance](ctx, c, http.MethodGet, "/api/v1/vm?id="+url.QueryEscape(string(id)), nil)
}

// Start asks for req.Count instances and returns their ids.
func (c *Client) Start(ctx context.Context, req StartRequest) ([]InstanceID, error) {
	return call[[]InstanceID](ctx, c, http.MethodPost, "/api/v1/vm", req)
}

// Terminate asks for the end of an instance. Repeating it is no error.
func (c *Client) Terminate(ctx context.Context, id InstanceID) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodDelete, "/api/v1/vm", map[string]InstanceID{"id": id})
	return err
}

// Nodes lists all nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return call[[]Node](ctx, c, http.MethodGet, "/api/v1/node", nil)
}

// Node returns one node, or ErrNotFound.
func (c *Client) Node(ctx context.Context, id NodeID) (Node, error) {
	nodes, err := call[[]Node](ctx, c, http.MethodGet, "/api/v1/node?id="+url.QueryEscape(string(id)), nil)
	if err == nil && len(nodes) != 1 {
		err = ErrNotFound
	}
	if err != nil {
		return Node{}, err
	}
	return nodes[0], nil
}

// Register begins a session of a node.
func (c *Client) Register(ctx context.Context, req RegisterRequest) (RegisterResponse, error) {
	return call[RegisterResponse](ctx, c, http.MethodPost, PathAgentRegister, req)
}

// Unregister removes a node.
func (c *Client) Unregister(ctx context.Context, req UnregisterRequest) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodPost, PathAgentUnregister, req)
	return err
}

// Sync is the heartbeat.
func (c *Client) Sync(ctx context.Context, req SyncRequest) (SyncResponse, error) {
	return call[SyncResponse](ctx, c, http.MethodPost, PathAgentSync, req)
}

// Reserve waits for a task.
func (c *Client) Reserve(ctx context.Context, req ReserveRequest) (ReserveResponse, error) {
	return call[ReserveResponse](ctx, c, http.MethodPost, PathAgentReserve, req)
}

// Report tells of a task's progress or end.
func (c *Client) Report(ctx context.Context, req ReportRequest) (ReportResponse, error) {
	return call[ReportResponse](ctx, c, http.MethodPost, PathAgentReport, req)
}

func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	req := wire.Request{Method: method, Path: path, Body: in}
	if method != http.MethodGet {
		key, _ := ctx.Value(idempotencyKey{}).(string)
		req.Header = http.Header{IdempotencyHeader: {cmp.Or(key, uuid.NewString())}}
	}
	return wire.Call[T](ctx, &c.wire, req)
}
