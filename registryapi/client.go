package registryapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// APIError is an answer of the registry that is not OK.
type APIError struct {
	HTTPStatus int
	Message    string
}

func (e *APIError) Error() string {
	if e.HTTPStatus != http.StatusOK {
		return fmt.Sprintf("registry answered %d: %s", e.HTTPStatus, e.Message)
	}
	return "registry: " + e.Message
}

// Client calls the REST API of a registry. It is safe for concurrent use.
type Client struct {
	base string
	list string // path of the list of templates
	http *http.Client
}

// NewClient returns a client for the registry at base, for example
// "http://10.0.1.4:8089". With an *http.Client whose transport balances, base
// names the pool and the transport picks the endpoint.
func NewClient(base string, hc *http.Client) *Client {
	return &Client{base: strings.TrimRight(base, "/"), list: "/registry/v2/vm", http: hc}
}

// NewClientOfController returns a client that lists and changes templates
// through the controller at base, which has these calls of a registry and no
// others: Templates, Template, Delete, Revert and Disk.
func NewClientOfController(base string, hc *http.Client) *Client {
	return &Client{base: strings.TrimRight(base, "/") + "/api/v1", list: "/registry/vm", http: hc}
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
	var out T
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return decode[T](resp)
}

// maxAnswer bounds what is read of an answer: a list of all templates is far smaller.
const maxAnswer = 64 << 20

// decode reads an answer's envelope.
func decode[T any](resp *http.Response) (T, error) {
	var out T
	var env struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Body    *T     `json:"body"`
	}
	answer := &io.LimitedReader{R: resp.Body, N: maxAnswer}
	if err := json.NewDecoder(answer).Decode(&env); err != nil {
		if answer.N <= 0 {
			err = fmt.Errorf("it does not end within %d MiB", maxAnswer>>20)
		}
		return out, &APIError{HTTPStatus: resp.StatusCode, Message: "the answer is not from a registry: " + err.Error()}
	}
	if resp.StatusCode != http.StatusOK || env.Status != "OK" {
		return out, &APIError{HTTPStatus: resp.StatusCode, Message: env.Message}
	}
	if env.Body != nil {
		out = *env.Body
	}
	return out, nil
}

// IsAPIError reports whether a registry answered at all, though not with OK.
func IsAPIError(err error) bool {
	var e *APIError
	return errors.As(err, &e)
}
