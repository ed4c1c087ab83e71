package attempt

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

func TestDeclaredWait(t *testing.T) {
	for _, test := range []struct {
		prefer []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{"wait=30"}, 30 * time.Second},
		{[]string{"respond-async, Wait=\"5\""}, 5 * time.Second},
		{[]string{"return=minimal", "wait=7"}, 7 * time.Second},
		{[]string{"wait"}, 0},
		{[]string{"wait=-1"}, 0},
		{[]string{"wait=1.5"}, 0},
		{[]string{"wait=9223372037"}, 0}, // as nanoseconds it is more than there are
	} {
		req, err := http.NewRequest(http.MethodGet, "http://pool/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.prefer != nil {
			req.Header["Prefer"] = test.prefer
		}
		if got := declaredWait(req); got != test.want {
			t.Errorf("Prefer: %q waits for %s, want %s", test.prefer, got, test.want)
		}
	}
}

// A request's path is below its endpoint's, spelled as it was.
func TestPathIsBelowTheEndpoints(t *testing.T) {
	for _, test := range []struct{ endpoint, url, want string }{
		{"http://a", "http://pool/x/y?q=1", "http://a/x/y?q=1"},
		{"http://a/base", "http://pool/x/y?q=1", "http://a/base/x/y?q=1"},
		{"http://a/base", "http://pool/x%2Fy%20z", "http://a/base/x%2Fy%20z"},
		{"https://a:8443/b%20c/", "http://pool/x%2Fy", "https://a:8443/b%20c/x%2Fy"},
	} {
		u, err := endpoint.Parse(test.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		from, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		at := Addressed(from, u)
		if got := at.String(); got != test.want {
			t.Errorf("%s at %s is %s, want %s", test.url, test.endpoint, got, test.want)
		}
	}
}
