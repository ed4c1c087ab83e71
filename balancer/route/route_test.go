package route

import "testing"

func TestRouteIsOfAKindOfRequest(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"/api/v1/node/6f1c2a", "/api/v1/node/a0", true},
		{"/api/v1/node/6f1c2a/vm", "/api/v1/node/77/log", true},
		{"/v2/mac14/manifests/latest", "/v2/mac15/manifests/latest", true},
		{"/v2/mac/blobs/sha256:01", "/v2/mac/blobs/sha256:ff9", true},
		{"/a/b/c/d/e", "/a/b/c/d/f", true},
		{"/api/v1/node", "/api/v1/vm", false},
		{"/api/v1/agent/sync", "/api/v1/agent/reserve", false},
		{"/api/v1/node/77", "/api/v1/node", false},
		{"/v2/mac/manifests/1", "/v2/mac/blobs/1", false},
	} {
		if got := routeOf("GET", test.a) == routeOf("GET", test.b); got != test.same {
			t.Errorf("%s and %s are of one kind: %v, want %v", test.a, test.b, got, test.same)
		}
	}
	if routeOf("GET", "/api/v1/vm") == routeOf("DELETE", "/api/v1/vm") {
		t.Error("a method is no part of the kind")
	}
}
