package wire

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"go.uber.org/zap"
)

func TestAnswersHaveOneEnvelope(t *testing.T) {
	t.Parallel()
	list := NewList(10)
	list.Add(map[string]int{"a": 1})
	list.AddEncoded([]byte(`{"b":2}`))
	for name, c := range map[string]struct {
		api  API
		body any
		want string
	}{
		"a body":                {API{}, []int{1}, `{"status":"OK","message":"","body":[1]}`},
		"none":                  {API{}, nil, `{"status":"OK","message":""}`},
		"none, of the registry": {API{EmptyBody: NullBody}, nil, `{"status":"OK","message":"","body":null}`},
		"a list":                {API{}, list.Answer(), `{"status":"OK","message":"","body":[{"a":1},{"b":2}]}`},
		"an empty list":         {API{}, NewList(0).Answer(), `{"status":"OK","message":"","body":[]}`},
	} {
		w := httptest.NewRecorder()
		c.api.Log = zap.NewNop()
		c.api.Handle(func(*http.Request) (any, error) { return c.body, nil }).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if got := w.Body.String(); got != c.want+"\n" || w.Header().Get("Content-Length") != strconv.Itoa(len(got)) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q %v", name, got, w.Header())
		}
	}
}
