package balancer

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A proxy forwards requests as its server received them, with RequestURI set,
// which http.Client refuses. Such a request must still get a second pass.
func TestForwardedRequestGetsASecondPass(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	b, err := New(DefaultConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetMembers(OriginJoin, []string{server.URL}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://pool/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.RequestURI = "/x"
	resp, err := b.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("forwarded request: %v, want the answer of the second pass", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || calls.Load() < 2 {
		t.Errorf("got %d after %d calls, want 200 after 2", resp.StatusCode, calls.Load())
	}
}
