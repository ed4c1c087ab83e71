package drill

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A fault may be of POSTs alone, or of each n-th request.
func TestBehaviourOfSomeRequests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		how        behaviour
		gets, post int // of ten each, in turn, are met by it
	}{
		{behaviour{Status: 404}, 10, 10},
		{behaviour{Status: 500, Posts: true}, 0, 10},
		{behaviour{Hang: true, Every: 5}, 2, 2},
	} {
		b := &backend{}
		b.behave.Store(&tt.how)
		var met [2]int
		for i := range 20 {
			if b.behaviourTo(httptest.NewRequestWithContext(t.Context(), []string{http.MethodGet, http.MethodPost}[i%2], "/", nil)) != (behaviour{}) {
				met[i%2]++
			}
		}
		if met != [2]int{tt.gets, tt.post} {
			t.Errorf("%+v meets %v of ten GETs and ten POSTs, want %d and %d", tt.how, met, tt.gets, tt.post)
		}
	}
}
