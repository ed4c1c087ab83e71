package readiness

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAskTellsReadyFromNot(t *testing.T) {
	ready := true
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			http.Error(w, "etcd does not answer", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	if err := Ask(t.Context(), server.URL+"/"); err != nil {
		t.Errorf("a ready server: %v, want nil", err)
	}
	ready = false
	if err := Ask(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "etcd does not answer") {
		t.Errorf("a server that is not ready: %v, want its own reason", err)
	}
	server.Close()
	if err := Ask(t.Context(), server.URL); err == nil {
		t.Error("a dead server is ready")
	}
}
