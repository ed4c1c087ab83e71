package balancer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// doors are a bare client and a balancer's, to three servers on loopback in turn; each answer is
// compared byte by byte. size 0 is a small one.
func doors(b *testing.B, size int) (bare, balanced func()) {
	const answer = `{"status":"OK"}`
	large := benchBytes()
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			w.Write(large)
			return
		}
		io.WriteString(w, answer)
	})
	var urls []string
	for range 3 {
		srv := httptest.NewServer(serve)
		b.Cleanup(srv.Close)
		urls = append(urls, srv.URL)
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	b.Cleanup(tr.CloseIdleConnections)
	bal, err := New(DefaultConfig(), nil)
	if err != nil {
		b.Fatal(err)
	}
	bal.SetMembers(OriginJoin, urls)
	b.Cleanup(bal.closeIdle)
	through := func(c *http.Client, urls ...string) func() {
		want, path := []byte(answer), "/api/v1/status"
		if size > 0 {
			want, path = large, "/large"
		}
		got := make([]byte, len(want)+1)
		for i := range urls {
			urls[i] += path
		}
		turn := 0
		return func() {
			turn++
			resp, err := c.Get(urls[turn%len(urls)])
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.ReadFull(resp.Body, got)
			if err != io.ErrUnexpectedEOF || !bytes.Equal(got[:n], want) {
				b.Fatalf("got %d bytes (%v) that are not the %d sent", n, err, len(want))
			}
			resp.Body.Close()
		}
	}
	return through(&http.Client{Transport: tr}, urls...), through(bal.Client(), "http://pool")
}

// benchBytes are more than a balancer reads ahead, and no part of them is like another.
func benchBytes() []byte {
	data := make([]byte, DefaultConfig().ReadAhead*5/4)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// An answer above ReadAhead, through a bare client and the balancer.
func BenchmarkLargeAnswer(b *testing.B) {
	bare, balanced := doors(b, 1)
	for _, door := range []struct {
		name    string
		request func()
	}{{"via=bare", bare}, {"via=balancer", balanced}} {
		b.Run(door.name, func(b *testing.B) {
			b.SetBytes(DefaultConfig().ReadAhead * 5 / 4)
			for b.Loop() {
				door.request()
			}
		})
	}
}

// The cost of a request over a bare client, on loopback.
func BenchmarkRequest(b *testing.B) {
	bare, balanced := doors(b, 0)
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
	bare, balanced := doors(b, 0)
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
