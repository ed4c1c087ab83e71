package balancer

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// poolOf builds a snapshot of n healthy endpoints.
func poolOf(n int) *snapshot {
	cfg := DefaultConfig()
	snap := &snapshot{}
	for i := range n {
		u, _ := url.Parse(fmt.Sprintf("http://10.0.0.%d", i))
		ep := newEndpoint(&cfg, u, nil, time.Now())
		snap.all = append(snap.all, ep)
		snap.usable = append(snap.usable, ep)
	}
	return snap
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snap := poolOf(n)
			w := want{now: time.Now()}
			b.ReportAllocs()
			turn := uint64(0)
			for b.Loop() {
				if snap.first(turn, w) == nil {
					b.Fatal("nothing was picked")
				}
				turn++
			}
		})
	}
}

func BenchmarkPickCareful(b *testing.B) {
	snap := poolOf(3)
	w := want{now: time.Now(), careful: true}
	b.ReportAllocs()
	turn := uint64(0)
	for b.Loop() {
		snap.first(turn, w)
		turn++
	}
}

// The cost of a request over a bare client, on loopback.
func BenchmarkRequest(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"status":"OK"}`) }))
	defer srv.Close()
	request := func(b *testing.B, c *http.Client, url string) {
		b.ReportAllocs()
		for b.Loop() {
			resp, err := c.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	b.Run("via=bare", func(b *testing.B) {
		tr := http.DefaultTransport.(*http.Transport).Clone()
		defer tr.CloseIdleConnections()
		request(b, &http.Client{Transport: tr}, srv.URL+"/api/v1/status")
	})
	b.Run("via=balancer", func(b *testing.B) {
		bal, err := New(DefaultConfig(), nil)
		if err != nil {
			b.Fatal(err)
		}
		bal.SetMembers(OriginJoin, []string{srv.URL})
		defer bal.closeIdle()
		request(b, bal.Client(), "http://pool/api/v1/status")
	})
}
