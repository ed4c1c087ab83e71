package topologies

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// carryVar makes this test's executable push an image of that many bytes to the
// registry that carryRegistry names and pull it again, each in about
// carrySeconds, so that there is time to harm what is in between. It tells of
// each tenth that it got through.
const (
	carryVar      = "ANKA_TEST_CARRY"
	carryRegistry = "ANKA_TEST_CARRY_REGISTRY"
	carrySeconds  = 20
)

func init() { roles[carryVar] = carry }

func carry() int {
	if err := carryImage(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func carryImage() error {
	size, err := strconv.ParseInt(os.Getenv(carryVar), 10, 64)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "anka-carry-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "layer")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte("carry"))), size)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	c, err := transfer.New(transfer.Config{Base: os.Getenv(carryRegistry), HTTP: &http.Client{Transport: newSlowLine(size)}, Parallel: 1, Attempts: 30})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	report := func(kind string) func(transfer.Progress) {
		var mu sync.Mutex
		tenths := int64(0)
		return func(p transfer.Progress) {
			mu.Lock()
			defer mu.Unlock()
			for ; tenths < p.Done*10/size; tenths++ {
				_ = out.Encode(event{Kind: kind, At: time.Now()}) // stdout is the test's pipe
			}
		}
	}
	ctx := context.Background()
	pushed, err := c.Push(ctx, "team/large", "v1", transfer.Image{
		Config: []byte(`{"name":"large","uuid":"5d1b40b9-7ad5-4c50-9f5a-2e0f7f5a0f33"}`),
		Files:  []transfer.File{{Name: fmt.Sprintf("%032x.ank", 1), Path: path}},
	}, transfer.PushOptions{Report: report("pushed")})
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	pulled, err := c.Pull(ctx, "team/large", "v1", filepath.Join(dir, "pulled"), transfer.PullOptions{Report: report("pulled")})
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return out.Encode(event{Kind: "carried", ID: fmt.Sprintf("%d bytes, %d sent, %d fetched", size, pushed.Sent, pulled.Fetched), At: time.Now()})
}

// slowLine lets bodies through at a pace.
type slowLine struct {
	limit *rate.Limiter
	next  http.RoundTripper
}

func newSlowLine(size int64) *slowLine {
	return &slowLine{rate.NewLimiter(rate.Limit(size/carrySeconds), 1<<20), http.DefaultTransport.(*http.Transport).Clone()}
}

func (s *slowLine) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.Clone(r.Context())
		r.Body = &slowBody{r.Body, s.limit, r.Context()}
	}
	resp, err := s.next.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/blobs/sha256") {
		resp.Body = &slowBody{resp.Body, s.limit, r.Context()}
	}
	return resp, err
}

type slowBody struct {
	io.ReadCloser
	limit *rate.Limiter
	ctx   context.Context
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 256<<10)])
	if werr := b.limit.WaitN(b.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}
