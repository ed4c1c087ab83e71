// Package replica tests registries that copy from one another as real processes.
package replica

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "anka-registry")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/ankacluster/ankacluster/cmd/anka-registry").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// process is a registry of its own.
type process struct {
	url string
	cmd *exec.Cmd
}

func start(t *testing.T, bin, dir string, args ...string) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log") // of this start alone: its address is read from it
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(bin, append([]string{"--listen-addr", "127.0.0.1:0", "--base-path", dir, "--min-free", "0"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	t.Cleanup(func() {
		p.kill()
		if data, err := os.ReadFile(path); err == nil && t.Failed() {
			t.Logf("log of %s:\n%s", dir, data)
		}
	})
	eventually(t, "the registry says where it listens", func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		_, rest, ok := strings.Cut(string(data), `"addr":"`)
		addr, _, _ := strings.Cut(rest, `"`)
		p.url = "http://" + addr
		return ok
	})
	eventually(t, "the registry is ready", func() bool {
		resp, err := http.Get(p.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// kill is SIGKILL. A second one does nothing.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func client(t *testing.T, url string) *transfer.Client {
	t.Helper()
	c, err := transfer.New(transfer.Config{Base: url})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func push(t *testing.T, url, repo, tag string, size int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(repo+tag))), size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = client(t, url).Push(context.Background(), repo, tag, transfer.Image{
		Config: []byte(`{"name":"sonoma","uuid":"5d1b40b9-7ad5-4c50-9f5a-2e0f7f5a0f00"}`),
		Files:  []transfer.File{{Name: fmt.Sprintf("%032x.ank", 1), Path: path}},
	}, transfer.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// meter is a line of that many bytes a second that counts the bytes of blobs. The
// line and not the reader is what is slow, as between sites: nothing piles up in
// the reader's socket.
func meter(t *testing.T, target string, perSecond int, n *atomic.Int64) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(io.Discard, "", 0) // it tells of every kill
	limit := rate.NewLimiter(rate.Limit(perSecond), 64<<10)
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.Contains(r.Request.URL.Path, "/blobs/") {
			r.Body = &countingBody{r.Body, n, limit}
		}
		return nil
	}
	ts := httptest.NewServer(proxy)
	t.Cleanup(ts.Close)
	return ts.URL
}

type countingBody struct {
	io.ReadCloser
	n     *atomic.Int64
	limit *rate.Limiter
}

func (c *countingBody) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b[:min(len(b), 64<<10)])
	_ = c.limit.WaitN(context.Background(), n) // n is below the burst
	c.n.Add(int64(n))
	return n, err
}

// R3, R9: a replica is killed in mid copy again and again. It lists the tag only
// when it can serve it, and fetches hardly anything twice: whether the line is
// what is slow, or its own limit.
func TestKilledReplicaGoesOnWhereItStopped(t *testing.T) {
	bin := build(t)
	for _, tt := range []struct {
		name string
		size int64
		line int
		args []string
		most int64 // of a hundred, lost at each kill
	}{
		// What is lost is what the line brought while the replica had no turn on
		// the processor: the promise is 1, and a busy machine must not fail the test.
		{"slow line", 192 << 20, 40 << 20, nil, 3},
		{"own limit", 96 << 20, 1 << 30, []string{"--replica-bandwidth", "24MiB"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			source := start(t, bin, filepath.Join(t.TempDir(), "push"))
			push(t, source.url, "team/sonoma", "v1", tt.size)
			var fetched atomic.Int64
			args := append([]string{"--replica-of", meter(t, source.url, tt.line, &fetched)}, tt.args...)
			dir := filepath.Join(t.TempDir(), "replica")
			const kills = 3
			for i := range kills {
				before := fetched.Load()
				p := start(t, bin, dir, args...)
				eventually(t, "a fifth is copied", func() bool { return fetched.Load()-before > tt.size/5 })
				if list, err := registryapi.NewClient(p.url, http.DefaultClient).Templates(context.Background()); err != nil || len(list) != 0 {
					t.Errorf("kill %d: a replica without the content lists %v, %v", i, list, err)
				}
				p.kill()
			}
			p := start(t, bin, dir, args...)
			eventually(t, "in sync", func() bool {
				st, err := registryapi.NewClient(p.url, http.DefaultClient).Replication(context.Background())
				return err == nil && st.InSync
			})
			pulled, err := client(t, p.url).Pull(context.Background(), "team/sonoma", "v1", t.TempDir(), transfer.PullOptions{})
			if err != nil || pulled.Fetched != tt.size {
				t.Fatalf("pull from the replica: %d bytes, %v", pulled.Fetched, err)
			}
			again := fetched.Load() - tt.size
			t.Logf("%d kills: %d of %d bytes fetched again (%.3f%%)", kills, again, tt.size, 100*float64(again)/float64(tt.size))
			// What was on the wire when the process died is lost with it, each time.
			if again > kills*tt.most*tt.size/100 {
				t.Errorf("%d bytes fetched again, want at most %d%% a kill", again, tt.most)
			}
		})
	}
}
