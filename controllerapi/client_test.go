package controllerapi

import (
	"io"
	"net/http"
	"net/http/httptest"
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
