package balancer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// begin sends a header, or that and a beginning, without a length, and then nothing.
func begin(contentType, beginning string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, beginning)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

// endless sends for as long as it is read.
func endless(contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// small is what a caller of small calls reads at most.
const small = 4 << 20

// askSmall is ask for a caller that takes no more than small.
func (w *world) askSmall(method, path string, header ...string) (string, time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("body")
	}
	req, _ := http.NewRequestWithContext(ctx, method, "http://pool"+path, body)
	if len(header) > 0 {
		req.Header.Set(header[0], header[1])
	}
	began := time.Now()
	resp, err := w.b.Client().Do(req)
	if err != nil {
		return "error: " + err.Error(), time.Since(began)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, small))
	if err == nil && len(data) == small {
		err = fmt.Errorf("no end after %d bytes", small)
	}
	if err != nil {
		return "error: " + err.Error(), time.Since(began)
	}
	return resp.Status[:3] + " " + string(data), time.Since(began)
}

// One of three answers 200 and never ends the body, or sends it without end: reads and
// writes with a key notice nothing, it goes out, and nothing piles up.
func TestAnswersThatDoNotEnd(t *testing.T) {
	for name, broken := range map[string]http.HandlerFunc{
		"silent":           begin("text/plain", ""),
		"silent half-way":  begin("application/json", `{"half":`),
		"silent, no type":  begin("application/octet-stream", "x"),
		"without end":      endless("text/plain"),
		"JSON without end": endless("application/json"),
		"silent, announced": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			begin("text/plain", "x")(w, r)
		},
	} {
		for kind, header := range map[string][]string{"GET": nil, "POST": nil, "POST with a key": {IdempotencyHeader, "k"}} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				inWorld(t, DefaultConfig(), three, func(w *world) {
					method, _, _ := strings.Cut(kind, " ")
					w.load(method, "/x", time.Second, 5*time.Millisecond, "200", header...)
					w.fakes["b"].set(broken)
					var mu sync.Mutex
					var load sync.WaitGroup
					bad, conns := 0, 0
					var longest time.Duration
					for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
						load.Go(func() {
							got, took := w.askSmall(method, "/x", header...)
							mu.Lock()
							defer mu.Unlock()
							longest = max(longest, took)
							if !strings.HasPrefix(got, "200") {
								bad++
							}
						})
						conns = max(conns, w.net.Open("b:80"))
					}
					load.Wait()
					most, limit := 0, 500*time.Millisecond
					if kind == "POST" {
						most, limit = 10, w.cfg.Stall.Timeout+500*time.Millisecond
					}
					if bad > most || longest > limit {
						t.Errorf("%d failed and the slowest took %s; want %d at most, and %s", bad, longest, most, limit)
					}
					if s := w.state("b"); w.count("b", Ejected) == 0 && (kind != "POST" || s.FailuresInRow == 0) {
						t.Errorf("it is %s, want it out, or avoided by what cannot be repeated", s.State)
					}
					for _, host := range []string{"a", "c"} {
						if n := w.count(host, Ejected); n > 0 {
							t.Errorf("%s, which is well, was taken out", host)
						}
					}
					if conns > 60 {
						t.Errorf("%d connections to it at once", conns)
					}
				})
			})
		}
	}
}

// A route on which answers pause, or go on, is one of streams: it is passed on as it
// comes for as long as its reader wants, beside a route of documents that share its path.
func TestStreamsAreNotTakenForAnswersThatDoNotEnd(t *testing.T) {
	stream := func(contentType string, gap time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.URL.RawQuery == "" {
				io.WriteString(w, "document")
				return
			}
			w.Header().Set("Content-Type", contentType)
			for range 10 {
				w.(http.Flusher).Flush()
				time.Sleep(gap)
				io.WriteString(w, "line\n")
			}
		}
	}
	for name, serve := range map[string]http.HandlerFunc{
		"a log": stream("text/plain", 20*time.Second), "events": stream("text/event-stream", 20*time.Second),
		"a watch": stream("application/json", 20*time.Second), "a busy log": stream("text/plain", time.Second),
	} {
		for _, hosts := range [][]string{{"a"}, three} {
			inWorld(t, DefaultConfig(), hosts, func(w *world) {
				for _, host := range hosts {
					w.fakes[host].set(serve)
				}
				w.load("GET", "/log", time.Second, 5*time.Millisecond, "200 document")
				for range 3 {
					began := time.Now()
					resp, err := w.b.Client().Get("http://pool/log?follow=true")
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > time.Second {
						t.Errorf("%s: its header came after %s", name, took)
					}
					data, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if want := strings.Repeat("line\n", 10); err != nil || string(data) != want {
						t.Errorf("%s from %d endpoints: got %q, %v", name, len(hosts), data, err)
					}
				}
				for _, host := range hosts {
					if s := w.state(host); s.State != Healthy || s.Ejections > 0 {
						t.Errorf("%s: %s is %s (%s)", name, host, s.State, s.Reason)
					}
				}
			})
		}
	}
}

// A stream on a route that was one of documents until now: every endpoint sends it, so it
// is what it is meant to be.
func TestStreamWhereDocumentsWere(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.load("GET", "/x", time.Second, 5*time.Millisecond, "200")
		for _, host := range three {
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
				io.WriteString(rw, "first,")
				rw.(http.Flusher).Flush()
				time.Sleep(20 * time.Second)
				io.WriteString(rw, "second")
			})
		}
		for range 3 {
			if got := w.ask("GET", "/x", time.Minute); got != "200 first,second" {
				t.Errorf("got %q", got)
			}
		}
		for _, host := range three {
			if s := w.state(host); s.State != Healthy || s.Ejections > 0 {
				t.Errorf("%s is %s (%s)", host, s.State, s.Reason)
			}
		}
	})
}

// A large answer without a length, where answers were small, is asked of a second
// endpoint once and passed on.
func TestLargeAnswerWhereDocumentsWere(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 2<<16)
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.load("GET", "/x", time.Second, 5*time.Millisecond, "200")
		before := 0
		for _, host := range three {
			n, _ := w.fakes[host].counts()
			before += n
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
				rw.(http.Flusher).Flush()
				io.WriteString(rw, large)
			})
		}
		for range 30 {
			if got := w.ask("GET", "/x", time.Minute); got != "200 "+large {
				t.Fatalf("got %d bytes (%.60q)", len(got), got)
			}
		}
		after := 0
		for _, host := range three {
			n, _ := w.fakes[host].counts()
			after += n
			if s := w.state(host); s.State != Healthy || s.Ejections > 0 {
				t.Errorf("%s is %s (%s)", host, s.State, s.Reason)
			}
		}
		if after-before > 32 {
			t.Errorf("30 answers cost %d requests", after-before)
		}
	})
}

// In a pool of one, and where every endpoint's answers hang, a hang ends in an error
// within the stall limit, and no endpoint is taken out for it.
func TestHangWithoutAPeerEndsInAnError(t *testing.T) {
	for _, hosts := range [][]string{{"a"}, three} {
		inWorld(t, DefaultConfig(), hosts, func(w *world) {
			w.load("POST", "/x", time.Second, 5*time.Millisecond, "200")
			w.load("GET", "/other", time.Second, 5*time.Millisecond, "200")
			for _, host := range hosts {
				w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/x" {
						begin("text/plain", "x")(rw, r)
						return
					}
					say(host)(rw, r)
				})
			}
			var load sync.WaitGroup
			load.Go(func() { w.load("GET", "/other", 10*time.Second, 5*time.Millisecond, "200") })
			for range 50 {
				got, took := w.askSmall("POST", "/x")
				if !strings.Contains(got, "though such answers end") || took > w.cfg.Stall.Timeout+500*time.Millisecond {
					t.Errorf("got %q after %s, want the reason within the stall limit", got, took)
				}
			}
			load.Wait()
			for _, host := range hosts {
				if s := w.state(host); s.State != Healthy || s.Ejections > 0 {
					t.Errorf("of %d, %s is %s (%s)", len(hosts), host, s.State, s.Reason)
				}
			}
		})
	}
}

// An answer that counts when its body ends counts once.
func TestDocumentWithoutALengthCountsOnce(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			rw.(http.Flusher).Flush()
			io.WriteString(rw, "document")
		})
		for range 100 {
			if got := w.ask("POST", "/x", time.Minute); got != "200 document" {
				t.Fatal(got)
			}
		}
		if s := w.state("a"); s.Requests != 100 || s.SuccessRate != 1 || s.Transfers != 0 {
			t.Errorf("100 requests are counted as %d, %g of them good; %d transfers are open", s.Requests, s.SuccessRate, s.Transfers)
		}
	})
}
