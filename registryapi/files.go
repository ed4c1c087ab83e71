package registryapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// File is a file or central log that the registry keeps.
type File struct {
	Name     string `json:"name"` // slash-separated, below its directory
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // Unix seconds
}

// Files lists the uploaded files, central logs among them.
func (c *Client) Files(ctx context.Context) ([]File, error) {
	return call[[]File](ctx, c, http.MethodGet, "/registry/files", nil)
}

// UploadFile stores a file under name, which may have directories. Logs of a
// failed VM go to "logs/<vm uuid>/<file>".
func (c *Client) UploadFile(ctx context.Context, name string, body io.Reader) error {
	return c.send(ctx, http.MethodPut, "/registry/files/"+name, body)
}

// Logs lists the central logs.
func (c *Client) Logs(ctx context.Context) ([]File, error) {
	return call[[]File](ctx, c, http.MethodGet, "/registry/logs", nil)
}

// SendLog appends body, which should be whole lines, to the central log name,
// for example "node-1/agent.log". It may be appended twice when an answer is
// lost and the caller repeats.
func (c *Client) SendLog(ctx context.Context, name string, body io.Reader) error {
	return c.send(ctx, http.MethodPost, "/registry/logs/"+name, body)
}

// SendEvent appends an event to the event log as one line of JSON.
func (c *Client) SendEvent(ctx context.Context, event any) error {
	_, err := call[json.RawMessage](ctx, c, http.MethodPost, "/registry/log-event", event)
	return err
}

// send streams a body that is not JSON.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader) error {
	_, err := wire.Call[json.RawMessage](ctx, &c.wire, wire.Request{Method: method, Path: escapePath(path), Stream: body})
	return err
}

// escapePath keeps '?' and '%' of a file name from changing the request.
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", " ", "%20").Replace(path)
}
