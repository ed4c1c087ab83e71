package controllerapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A16: an answer that is empty, cut, or somebody else's is an error, for the agent
// to repeat the call; it is no empty word of the cloud.
func TestA16AnswerThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	var answer string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	defer srv.Close()
	c := NewClient(srv.URL, srv.Client())
	calls := map[string]func() error{
		"register":  func() error { _, err := c.Register(t.Context(), RegisterRequest{}); return err },
		"sync":      func() error { _, err := c.Sync(t.Context(), SyncRequest{}); return err },
		"reserve":   func() error { _, err := c.Reserve(t.Context(), ReserveRequest{}); return err },
		"report":    func() error { _, err := c.Report(t.Context(), ReportRequest{}); return err },
		"terminate": func() error { return c.Terminate(t.Context(), "i") },
		"list":      func() error { _, err := c.Instances(t.Context()); return err },
	}
	for _, answer = range []string{"", "{", `{"status":"OK","message":"","bo`, "{}", "<html>502 Bad Gateway</html>"} {
		for name, call := range calls {
			if call() == nil {
				t.Errorf("%s: the answer %q passes", name, answer)
			}
		}
	}
	answer = `{"status":"OK","message":"","body":{}}`
	if err := calls["sync"](); err != nil {
		t.Errorf("a whole answer: %v", err)
	}
}

// endlessBody is an answer that goes on for as long as it is read.
type endlessBody struct{ read int64 }

func (e *endlessBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += int64(len(p))
	return len(p), nil
}

func (*endlessBody) Close() error { return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnswerWithoutEndIsAnError(t *testing.T) {
	body := new(endlessBody)
	hc := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
	})}
	c := NewClient("http://controller", hc)
	c.wire.MaxAnswer = 1 << 20
	_, err := c.Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not end within 1 MiB") || body.read > 2<<20 {
		t.Errorf("got %v after %d bytes, want an error that says so", err, body.read)
	}
}
