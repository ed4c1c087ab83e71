package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ankacluster/ankacluster/balancer"
)

// A key allows a repeat, however the body comes. What is too large to be kept for it
// fails, and the answer says why.
func TestKeyedBodyIsKeptHoweverItComes(t *testing.T) {
	t.Parallel()
	good := backend(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", r.Trailer.Get("X-Sum"))
		w.Write(data)
	})
	var broken atomic.Int64
	bad := backend(t, func(w http.ResponseWriter, r *http.Request) {
		broken.Add(1)
		io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	for _, test := range []struct {
		name           string
		size           int
		chunks, expect bool
	}{
		{"with a length", 1000, false, false},
		{"in chunks", 1000, true, false},
		{"when asked for", 1000, false, true},
		{"in chunks, when asked for", 1000, true, true},
		{"in chunks, the most that is kept", keepBody, true, false},
		{"in chunks, too large", keepBody + 1, true, false},
		{"in chunks, with trailers", 1000, true, false},
		{"in chunks, with trailers, too large", keepBody + 1, true, false},
		{"with trailers, when asked for", 1000, true, true},
		{"too large", keepBody + 1, false, false},
		{"too large, when asked for", keepBody + 1, false, true},
		{"in chunks, too large, when asked for", 2 * keepBody, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := startProxy(t, false, good.URL, bad.URL)
			data := strings.Repeat("x", test.size)
			before, refused := broken.Load(), 0
			for range 4 {
				var body io.Reader = strings.NewReader(data)
				if test.chunks {
					body = io.MultiReader(body)
				}
				req, _ := http.NewRequest(http.MethodPost, addr+"/x", body)
				req.Header.Set(balancer.IdempotencyHeader, "k")
				sum := ""
				if strings.Contains(test.name, "trailers") {
					sum = "0123"
					req.Trailer = http.Header{"X-Sum": {sum}}
				}
				if test.expect {
					req.Header.Set("Expect", "100-continue")
				}
				resp, err := http.DefaultClient.Do(req)
				got := read(t, resp, err)
				switch {
				case resp.StatusCode == http.StatusOK && got == data && resp.Header.Get("X-Got") == sum:
				case test.size > keepBody && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(got, "too large to be kept"):
					refused++
				default:
					t.Errorf("got %d and %d bytes: %.100s", resp.StatusCode, len(got), got)
				}
			}
			if broken.Load() == before {
				t.Error("the broken endpoint was never asked: this proves nothing")
			}
			if test.size > keepBody && refused == 0 {
				t.Error("nothing was refused: this proves nothing")
			}
		})
	}
}
