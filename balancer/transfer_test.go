package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// T6: a transfer on a healthy endpoint survives whatever happens to the list
// and to others.
func TestT6TransferSurvivesHundredUpdates(t *testing.T) {
	inWorld(t, BlobConfig(), three, func(w *world) {
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			for range 600 {
				io.WriteString(rw, "x")
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://a"), "GET", "http://pool/blob", nil)
		resp, err := w.b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		go func() {
			for i := range 100 {
				lists := [][]string{urls("a", "b"), urls("b"), urls("a", "c", "d"), urls("c")}
				w.b.SetMembers(OriginLearned, lists[i%4])
				if i%10 == 5 {
					w.net.Set("b:80", faultnet.Fault{Refuse: true})
				} else {
					w.net.Heal("b:80")
				}
				time.Sleep(5 * time.Second)
			}
		}()
		data, err := io.ReadAll(resp.Body)
		if err != nil || len(data) != 600 {
			t.Errorf("got %d bytes, %v, want 600", len(data), err)
		}
	})
}

// T13: what may not continue a download.
func TestT13DownloadsContinueOnlyWithTheSameContent(t *testing.T) {
	data := strings.Repeat("0123456789", 1000)
	cut := func(rw http.ResponseWriter, etag string) {
		rw.Header().Set("ETag", etag)
		rw.Header().Set("Content-Length", fmt.Sprint(len(data)))
		io.WriteString(rw, data[:4000])
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	ranged := func(etag, contentRange, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if asked, only := r.Header.Get("Range"), r.Header.Get("If-Range"); asked != "bytes=4000-9999" || only != `"v1"` {
				t.Errorf("was asked for %q if it is %q", asked, only)
			}
			rw.Header().Set("ETag", etag)
			rw.Header().Set("Content-Range", contentRange)
			rw.WriteHeader(http.StatusPartialContent)
			io.WriteString(rw, body)
		}
	}
	for _, test := range []struct {
		name string
		etag string // of what broke off
		next http.HandlerFunc
		want bool
	}{
		{"the exact rest", `"v1"`, ranged(`"v1"`, "bytes 4000-9999/10000", data[4000:]), true},
		{"other content", `"v1"`, ranged(`"v2"`, "bytes 4000-9999/10000", data[4000:]), false},
		{"another range", `"v1"`, ranged(`"v1"`, "bytes 0-5999/10000", data[:6000]), false},
		{"another size", `"v1"`, ranged(`"v1"`, "bytes 4000-9999/20000", data[4000:]), false},
		{"a whole answer", `"v1"`, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"v1"`)
			io.WriteString(rw, data)
		}, false},
		{"the rest of what only means the same", `W/"v1"`, ranged(`W/"v1"`, "bytes 4000-9999/10000", data[4000:]), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, BlobConfig(), []string{"a", "b"}, func(w *world) {
				w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Range") != "" {
						rw.WriteHeader(http.StatusNotFound)
						return
					}
					cut(rw, test.etag)
				})
				w.fakes["b"].set(test.next)
				ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), 2*time.Minute)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://pool/blob", nil)
				resp, err := w.b.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if test.want != (err == nil) || !strings.HasPrefix(data, string(got)) || test.want && len(got) != len(data) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

func TestT13WrongDigestBreaksOff(t *testing.T) {
	cfg := BlobConfig()
	inWorld(t, cfg, []string{"a"}, func(w *world) {
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"v1"`)
			rw.Header().Set("Content-Length", "5")
			io.WriteString(rw, "wrong")
		})
		resp, err := w.b.Client().Get("http://pool/v2/x/blobs/sha256:" + strings.Repeat("0", 64))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); !errors.Is(err, ErrDigest) || len(got) == 5 {
			t.Errorf("got %q, %v, want ErrDigest before the last byte", got, err)
		}
	})
}

// T14: the answer of a hedge is read long after the race is over.
func TestT14HedgedBodyIsReadToItsEnd(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		stream := func(rw http.ResponseWriter, r *http.Request) {
			for range 20 {
				io.WriteString(rw, "0123456789")
				rw.(http.Flusher).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
					return
				}
			}
		}
		w.fakes["a"].set(after(time.Hour, say("a")))
		w.fakes["b"].set(stream)
		for range 2 {
			resp, err := w.b.Client().Get("http://pool/x")
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || len(data) != 200 {
				t.Errorf("got %d bytes, %v, want 200", len(data), err)
			}
		}
		if w.b.Status().Hedges == 0 {
			t.Error("nothing was hedged")
		}
	})
}
