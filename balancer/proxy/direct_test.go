package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/oci"
)

// direct downloads are those whose bytes nobody looks at.
func directConfig() balancer.Config {
	cfg := patient(balancer.BlobConfig())
	cfg.Splice = true
	return cfg
}

// hangingServer serves data, but hangs after so many bytes of each answer, until
// its caller has gone.
func hangingServer(t *testing.T, data []byte, after int64) string {
	return backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+strings.TrimPrefix(r.URL.Path, "/v2/lib/mac/blobs/")+`"`)
		http.ServeContent(&hangWriter{ResponseWriter: w, left: after, gone: r.Context().Done()}, r, "", time.Time{}, bytes.NewReader(data))
	}).URL
}

type hangWriter struct {
	http.ResponseWriter
	left int64
	gone <-chan struct{}
}

func (h *hangWriter) Write(p []byte) (int, error) {
	if h.left < int64(len(p)) {
		h.ResponseWriter.Write(p[:h.left])
		h.ResponseWriter.(http.Flusher).Flush()
		<-h.gone
		panic(http.ErrAbortHandler)
	}
	h.left -= int64(len(p))
	return h.ResponseWriter.Write(p)
}

func TestT10DirectDownloadLeavesARegistryThatHangs(t *testing.T) {
	t.Parallel()
	data, path := blob(8 << 20)
	cfg := directConfig()
	cfg.Stall.Timeout = 300 * time.Millisecond
	var n atomic.Int64
	addr := startRegistryProxy(t, cfg, hangingServer(t, data, 3<<20), blobServer(t, data, 0, &n).URL)
	for range 2 { // one of the two begins at the registry that hangs
		resp, err := http.Get(addr + path)
		if got := read(t, resp, err); got != string(data) {
			t.Fatalf("got %d bytes that differ, want the blob", len(got))
		}
	}
}

// A client that reads slowly is no reason to leave a registry: the registry has
// to be heard once and to send nothing twice.
func TestDirectDownloadWaitsForASlowClient(t *testing.T) {
	t.Parallel()
	data, path := blob(32 << 20) // more than the sockets between hold
	cfg := directConfig()
	cfg.Stall.Timeout = 6 * time.Second // the backend may be slow to get the processor
	var asked atomic.Int64
	var n atomic.Int64
	inner := blobServer(t, data, 0, &n)
	count := backend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		inner.Config.Handler.ServeHTTP(w, r)
	})
	resp, err := http.Get(startRegistryProxy(t, cfg, count.URL) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 1<<20)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * cfg.Stall.Timeout / 2) // the client's own doing, not a wait for something
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(first, rest...), data) {
		t.Fatalf("got %d bytes, %v; want the blob", len(first)+len(rest), err)
	}
	if asked.Load() != 1 {
		t.Errorf("the registry was asked %d times, want once", asked.Load())
	}
}

// A client that goes away in mid download is not the registry's failure.
func TestDirectDownloadOfAClientThatLeavesBlamesNobody(t *testing.T) {
	t.Parallel()
	data, path := blob(32 << 20)
	var n atomic.Int64
	url := blobServer(t, data, 0, &n).URL
	pool := startPool(t, directConfig(), []string{url})
	addr := serveProxy(t, Config{Control: startPool(t, patient(balancer.DefaultConfig()), []string{url}), Blob: pool, Step: oci.Step})
	for range 8 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	// The pool counts a transfer when it has ended; all of them have when none is open.
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		e := pool.Status().Endpoints[0]
		if e.Transfers == 0 {
			if e.State != balancer.Healthy {
				t.Errorf("the endpoint is %s (%s), want healthy", e.State, e.Reason)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d transfers still open", e.Transfers)
		}
	}
}
