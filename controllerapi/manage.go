package controllerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// NodeConfig is the body of POST /api/v1/node/config: what is nil stays as it is.
type NodeConfig struct {
	NodeID         NodeID  `json:"node_id" max:"256"`
	MaxVMCount     *int    `json:"max_vm_count,omitempty"`
	Name           *string `json:"name,omitempty" max:"256"`
	Host           *string `json:"host,omitempty" max:"256"`
	CapacityMode   *string `json:"capacity_mode,omitempty"` // number or resource
	VCPUOverride   *int    `json:"vcpu_override,omitempty"`
	RAMOverride    *int    `json:"ram_override,omitempty"`
	DisableLogging *bool   `json:"disable_central_logging,omitempty"`
	DrainMode      *bool   `json:"drain_mode,omitempty"`
}

// ConfigureNode changes settings of a node, or returns ErrNotFound.
func (c *Client) ConfigureNode(ctx context.Context, req NodeConfig) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodPost, "/api/v1/node/config", req)
	return err
}

// RemoveNode removes a node from the cloud, or returns ErrNotFound. A node whose agent
// still runs comes back.
func (c *Client) RemoveNode(ctx context.Context, id NodeID) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodDelete, "/api/v1/node", map[string]NodeID{"node_id": id})
	return err
}

// Groups lists all groups, by name.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return call[[]Group](ctx, c, http.MethodGet, "/api/v1/group", nil)
}

// CreateGroup makes a group of a name, or returns ErrGroupExists. fallback is the group
// that takes over when this one is full, "" for none.
func (c *Client) CreateGroup(ctx context.Context, name, description string, fallback GroupID) (Group, error) {
	return call[Group](ctx, c, http.MethodPost, "/api/v1/group", struct {
		Name        string  `json:"name"`
		Description string  `json:"description,omitempty"`
		Fallback    GroupID `json:"fallback_group_id,omitempty"`
	}{name, description, fallback})
}

// DeleteGroup removes a group, or returns ErrNotFound.
func (c *Client) DeleteGroup(ctx context.Context, id GroupID) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodDelete, "/api/v1/group?id="+url.QueryEscape(string(id)), nil)
	return err
}

// AddToGroup adds nodes to a group. Those that are in it stay.
func (c *Client) AddToGroup(ctx context.Context, group GroupID, nodes ...NodeID) error {
	return c.changeGroup(ctx, http.MethodPost, group, nodes)
}

// RemoveFromGroup takes nodes out of a group.
func (c *Client) RemoveFromGroup(ctx context.Context, group GroupID, nodes ...NodeID) error {
	return c.changeGroup(ctx, http.MethodDelete, group, nodes)
}

func (c *Client) changeGroup(ctx context.Context, method string, group GroupID, nodes []NodeID) error {
	_, err := call[json.RawMessage](ctx, c, method, "/api/v1/node/group", struct {
		Groups []GroupID `json:"group_ids"`
		Nodes  []NodeID  `json:"node_ids"`
	}{[]GroupID{group}, nodes})
	return err
}
