package balancer

import (
	"net/http"
	"testing"
	"time"
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
