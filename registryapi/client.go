package registryapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// Client calls the REST API of a registry. It is safe for concurrent use.
type Client struct {
	wire wire.Client
	list string // path of the list of templates
}

// NewClient returns a client for the registry at base, for example
// "http://10.0.1.4:8089". With an *http.Client whose transport balances, base
// names the pool and the transport picks the endpoint.
func NewClient(base string, hc *http.Client) *Client {
	return newClient(strings.TrimRight(base, "/"), "/registry/v2/vm", hc)
}

// NewClientOfController returns a client that lists and changes templates
// through the controller at base, which has these calls of a registry and no
// others: Templates, Template, Delete, Revert and Disk.
func NewClientOfController(base string, hc *http.Client) *Client {
	return newClient(strings.TrimRight(base, "/")+"/api/v1", "/registry/vm", hc)
}

func newClient(base, list string, hc *http.Client) *Client {
	return &Client{wire.Client{Base: base, HTTP: hc, Server: server}, list}
}

// Status returns the registry's state and version.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/registry/status", nil)
}

// Templates lists all templates, without versions.
func (c *Client) Templates(ctx context.Context) ([]Template, error) {
	return call[[]Template](ctx, c, http.MethodGet, c.list, nil)
}

// Template returns one template with its versions.
func (c *Client) Template(ctx context.Context, id string) (Template, error) {
	return call[Template](ctx, c, http.MethodGet, c.list+"?id="+url.QueryEscape(id), nil)
}

// Delete removes a template with all its tags.
func (c *Client) Delete(ctx context.Context, id string) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodDelete, "/registry/vm?id="+url.QueryEscape(id), nil)
	return err
}

// RevertTarget names the first version that a revert removes. The zero value is
// the latest; Tag wins over Version.
type RevertTarget struct {
	Tag     string `json:"tag,omitempty"`
	Version *int   `json:"version,omitempty"`
}

// Revert removes the target version of a template and every later one. The latest
// is named before it is removed, so that a repeat on the way removes no more.
func (c *Client) Revert(ctx context.Context, id string, target RevertTarget) error {
	if target == (RevertTarget{}) {
		t, err := c.Template(ctx, id)
		if err != nil {
			return err
		}
		if v := t.Find("", nil); v != nil {
			target.Tag = v.Tag
		}
	}
	_, err := call[json.RawMessage](ctx, c, http.MethodDelete, "/registry/revert?id="+url.QueryEscape(id), target)
	return err
}

// Disk returns the space of the registry's storage.
func (c *Client) Disk(ctx context.Context) (Disk, error) {
	return call[Disk](ctx, c, http.MethodGet, "/registry/disk", nil)
}

// Config returns a version's VM configuration as pushed. version < 0 and an
// empty tag mean the latest.
func (c *Client) Config(ctx context.Context, id, tag string, version int) (json.RawMessage, error) {
	q := url.Values{"id": {id}}
	if tag != "" {
		q.Set("tag", tag)
	}
	if version >= 0 {
		q.Set("version", strconv.Itoa(version))
	}
	return call[json.RawMessage](ctx, c, http.MethodGet, "/registry/vm/info?"+q.Encode(), nil)
}

func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	return wire.Call[T](ctx, &c.wire, wire.Request{Method: method, Path: path, Body: in})
}

// Codes of answers; test what a Client returns with errors.Is.
const (
	ErrNoSuchTemplate = wire.Code("no_such_template")
	ErrNoSuchVersion  = wire.Code("no_such_version")
	ErrInUse          = wire.Code("in_use")
)

// server is what errors of a Client call the server.
const server = "registry"

// Answered returns what a registry answered, when err holds an answer.
func Answered(err error) (*wire.Error, bool) { return wire.Answered(err, server) }
