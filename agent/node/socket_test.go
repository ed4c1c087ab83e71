package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func TestEveryRouteOfTheSocketIsItsOwners(t *testing.T) {
	t.Parallel()
	routes := socketRoutes(func() any { return "status" }, func() any { return "endpoints" }, NewDrains(nil, nil))
	admitted := 0
	for i, r := range routes {
		if r.Permission != access.Owner {
			t.Errorf("%s needs %s", r.Pattern, r.Permission)
		}
		routes[i].Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if access.Admitted(r.Context()) {
				admitted++
			}
		})
	}
	mux := (&wire.API{Log: zap.NewNop()}).Mux(routes)
	for _, r := range routes {
		method, path, _ := strings.Cut(r.Pattern, " ")
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, nil))
	}
	if admitted != len(routes) {
		t.Errorf("%d of %d handlers have a caller", admitted, len(routes))
	}
}
