package balancer

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
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

// doors are a bare client and a balancer's, to one server on loopback.
func doors(b *testing.B) (bare, balanced func()) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"status":"OK"}`) }))
	b.Cleanup(srv.Close)
	tr := http.DefaultTransport.(*http.Transport).Clone()
	b.Cleanup(tr.CloseIdleConnections)
	bal, err := New(DefaultConfig(), nil)
	if err != nil {
		b.Fatal(err)
	}
	bal.SetMembers(OriginJoin, []string{srv.URL})
	b.Cleanup(bal.closeIdle)
	through := func(c *http.Client, url string) func() {
		return func() {
			resp, err := c.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	return through(&http.Client{Transport: tr}, srv.URL+"/api/v1/status"), through(bal.Client(), "http://pool/api/v1/status")
}

// The cost of a request over a bare client, on loopback.
func BenchmarkRequest(b *testing.B) {
	bare, balanced := doors(b)
	for _, door := range []struct {
		name    string
		request func()
	}{{"via=bare", bare}, {"via=balancer", balanced}} {
		b.Run(door.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				door.request()
			}
		})
	}
}

// BenchmarkRequestInTurn is BenchmarkRequest for machines whose speed drifts: the
// two take turns every hundred requests, and what is reported is the median of
// what the balancer takes longer, in percent.
func BenchmarkRequestInTurn(b *testing.B) {
	const block = 100
	bare, balanced := doors(b)
	timed := func(request func()) float64 {
		start := time.Now()
		for range block {
			request()
		}
		return float64(time.Since(start))
	}
	var over []float64
	for b.Loop() {
		alone := timed(bare)
		over = append(over, 100*(timed(balanced)/alone-1))
	}
	slices.Sort(over)
	b.ReportMetric(over[len(over)/2], "%over-bare")
}
