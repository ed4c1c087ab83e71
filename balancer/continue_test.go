package balancer

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/test/faultnet"
)

// Whether an answer goes on elsewhere when its endpoint dies or hangs is a property
// of the answer: not of its path, and not of the pool.
func TestDownloadGoesOnInEveryPool(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	kinds := []struct {
		name, etag, asked, encoding string
		method                      string
		want                        []byte // nil: it ends in an error
	}{
		{name: "whole", etag: `"v1"`, method: "GET", want: data},
		{name: "a part", etag: `"v1"`, asked: "bytes=16-", method: "GET", want: data[16:]},
		{name: "packed", etag: `"v1-gzip"`, encoding: "gzip", method: "GET", want: data},
		{name: "weak", etag: `W/"v1"`, method: "GET"},
		{name: "without a validator", method: "GET"},
		{name: "of a write", etag: `"v1"`, method: "POST"},
	}
	faults := []struct {
		name string
		do   func(w *world, host string)
		gap  time.Duration
	}{
		{"killed", func(w *world, host string) {
			w.net.Set(host, faultnet.Fault{Refuse: true})
			w.net.Reset(host)
		}, 50 * time.Millisecond},
		{"hung", func(w *world, host string) { w.net.Set(host, faultnet.Fault{Hold: true}) }, 2 * time.Second},
	}
	for pool, cfg := range map[string]Config{"control": DefaultConfig(), "blob": BlobConfig()} {
		for i, kind := range kinds {
			if pool == "blob" && i%2 == 1 {
				continue // both pools go the same way
			}
			for _, fault := range faults {
				t.Run(pool+", "+kind.name+", "+fault.name, func(t *testing.T) {
					inWorld(t, cfg, three, func(w *world) {
						for _, host := range three {
							w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
								if kind.etag != "" {
									rw.Header().Set("ETag", kind.etag)
								}
								if kind.encoding != "" {
									rw.Header().Set("Content-Encoding", kind.encoding)
									rw.Header().Set("Content-Length", "3145728")
									if r.Header.Get("Range") != "" {
										rw.Header().Del("Content-Length")
									}
								}
								http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(data))
							})
						}
						req, _ := http.NewRequest(kind.method, "http://pool/any/path", nil)
						if kind.asked != "" {
							req.Header.Set("Range", kind.asked)
						}
						resp, err := w.b.Client().Do(req)
						if err != nil {
							t.Fatal(err)
						}
						defer resp.Body.Close()
						got := make([]byte, 1<<20)
						if _, err := io.ReadFull(resp.Body, got); err != nil {
							t.Fatal(err)
						}
						fault.do(w, resp.Request.URL.Host+":80")
						began := time.Now()
						rest, err := io.ReadAll(resp.Body)
						took := time.Since(began)
						got = append(got, rest...)
						switch {
						case took > fault.gap:
							t.Errorf("it took %s to go on or to end, want %s at most", took, fault.gap)
						case kind.want == nil && (err == nil || !bytes.HasPrefix(data, got)):
							t.Errorf("got %d bytes and %v, want an error after right bytes", len(got), err)
						case kind.want == nil && fault.name == "hung" && !errors.Is(err, attempt.ErrStalled):
							t.Errorf("got %v, want the stall named", err)
						case kind.want != nil && (err != nil || !bytes.Equal(got, kind.want)):
							t.Errorf("got %d bytes and %v, want all %d", len(got), err, len(kind.want))
						}
					})
				})
			}
		}
	}
}

// A server that has no ranges is not asked for half a minute.
func TestDownloadOfAServerWithoutRangesEndsAtOnce(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for _, host := range three {
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("ETag", `"v1"`)
				rw.Header().Set("Content-Length", "4194304")
				rw.Write(make([]byte, 2<<20))
				rw.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
		}
		began := time.Now()
		got := w.ask("GET", "/x", time.Minute)
		if took := time.Since(began); got[:6] != "error:" || took > 2*time.Second {
			t.Errorf("got %.200q after %s, want an error at once", got, took)
		}
	})
}
