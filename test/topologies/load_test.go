package topologies

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// loadVar makes this test's executable a crowd of clients that use controllers
// and registries through balancers until SIGTERM. The variable holds the
// controllers' URLs, and loadRegistries the registries'.
const (
	loadVar        = "ANKA_TEST_LOAD"
	loadRegistries = "ANKA_TEST_LOAD_REGISTRIES"
)

func init() { roles[loadVar] = load }

// What the crowd does. Each is counted by itself.
const (
	aRead    = "read"
	aKeyed   = "keyed write"
	unkeyed  = "write without a key"
	aPull    = "pull"
	aPush    = "push"
	blobSize = 8 << 20
)

type crowd struct {
	control, blobs *http.Client
	tell           func(event)
}

func load() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	running, end := context.WithCancel(context.Background())
	var background sync.WaitGroup
	pool := func(cfg balancer.Config, urls string) *http.Client {
		b, err := balancer.New(cfg, nil)
		if err == nil {
			err = b.SetMembers(balancer.OriginJoin, strings.Split(urls, ","))
		}
		if err != nil {
			panic(err)
		}
		background.Go(func() { _ = b.Run(running) })
		return b.Client()
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	c := &crowd{
		control: pool(balancer.DefaultConfig(), os.Getenv(loadVar)), blobs: pool(balancer.BlobConfig(), os.Getenv(loadRegistries)),
		tell: func(e event) {
			mu.Lock()
			defer mu.Unlock()
			_ = out.Encode(e) // stdout is the test's pipe
		},
	}
	dir, err := os.MkdirTemp("", "anka-load-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var clients sync.WaitGroup
	for _, w := range []struct {
		kind  string
		pause time.Duration
		do    func(context.Context, int) error
	}{
		{aRead, 30 * time.Millisecond, c.read},
		{aKeyed, 70 * time.Millisecond, c.keyed},
		{unkeyed, 70 * time.Millisecond, c.unkeyed},
		{unkeyed, 110 * time.Millisecond, c.unkeyed},
		{aPush, 900 * time.Millisecond, c.push(dir)},
		{aPull, 300 * time.Millisecond, c.pull(dir)},
	} {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				call, cancel := context.WithTimeout(context.Background(), time.Minute)
				began := time.Now()
				err := w.do(call, n)
				cancel()
				e := event{Kind: w.kind, At: time.Now(), Took: time.Since(began)}
				if err != nil {
					e.Err = err.Error()
				}
				c.tell(e)
				time.Sleep(w.pause) // a pace, not a wait for something
			}
		})
	}
	clients.Wait()
	end()
	background.Wait()
	return 0
}

func (c *crowd) request(ctx context.Context, method, path, body, key string) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://controllers"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set(controllerapi.IdempotencyHeader, key)
	}
	resp, err := c.control.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.200s, %w", method, path, resp.Status, text, err)
	}
	return nil
}

func (c *crowd) read(ctx context.Context, _ int) error {
	return c.request(ctx, http.MethodGet, "/api/v1/vm", "", "")
}

func (c *crowd) keyed(ctx context.Context, _ int) error {
	return c.request(ctx, http.MethodPost, "/api/v1/group", fmt.Sprintf(`{"name":"keyed-%s"}`, uuid.NewString()), uuid.NewString())
}

func (c *crowd) unkeyed(ctx context.Context, _ int) error {
	return c.request(ctx, http.MethodPost, "/api/v1/group", fmt.Sprintf(`{"name":"plain-%s"}`, uuid.NewString()), "")
}

func (c *crowd) registry() (*transfer.Client, error) {
	return transfer.New(transfer.Config{Base: "http://registries", HTTP: c.blobs, Chunk: 2 << 20})
}

const loadRepo = "load/template"

func (c *crowd) push(dir string) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		client, err := c.registry()
		if err != nil {
			return err
		}
		tag := fmt.Sprintf("v%d", n)
		path := filepath.Join(dir, "push")
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(tag))), blobSize)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		_, err = client.Push(ctx, loadRepo, tag, transfer.Image{
			Config: []byte(`{"name":"load","uuid":"5d1b40b9-7ad5-4c50-9f5a-2e0f7f5a0f11"}`),
			Files:  []transfer.File{{Name: fmt.Sprintf("%032x.ank", n+1), Path: path}},
		}, transfer.PushOptions{})
		return err
	}
}

// pull takes what was pushed first; the client checks every digest.
func (c *crowd) pull(dir string) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		client, err := c.registry()
		if err != nil {
			return err
		}
		into := filepath.Join(dir, "pull")
		defer os.RemoveAll(into)
		if err := os.MkdirAll(into, 0o755); err != nil {
			return err
		}
		_, err = client.Pull(ctx, "load/first", "v1", into, transfer.PullOptions{})
		return err
	}
}

// judgeLoad fails for every request that a client lost.
func judgeLoad(t *testing.T, p *process) {
	t.Helper()
	for _, kind := range []string{aRead, aKeyed, unkeyed, aPush, aPull} {
		all := events(t, p, kind)
		var longest time.Duration
		lost := 0
		for _, e := range all {
			longest = max(longest, e.Took)
			if e.Err != "" {
				lost++
				t.Errorf("%s lost at %s after %s: %s", kind, e.At.Format(time.TimeOnly+".000"), e.Took, e.Err)
			}
		}
		t.Logf("%-20s %5d, %d lost, longest %s", kind, len(all), lost, longest.Round(time.Millisecond))
		if len(all) == 0 {
			t.Errorf("no %s was done: this proves nothing", kind)
		}
	}
}
