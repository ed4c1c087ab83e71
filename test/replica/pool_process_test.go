package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// pool is a client that balances over urls.
func pool(t *testing.T, urls ...string) *transfer.Client {
	t.Helper()
	b, err := balancer.New(balancer.BlobConfig(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetMembers(balancer.OriginJoin, urls); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	c, err := transfer.New(transfer.Config{Base: "http://registries", HTTP: b.Client(), Chunk: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// R1: of two servers on one directory, the one in use is killed in mid push and
// comes back; then the same in mid pull.
func TestTransferGoesOnAtAnotherServerOfThePool(t *testing.T) {
	bin, dir := build(t), t.TempDir()
	servers := []*process{start(t, bin, dir), start(t, bin, dir)}
	c := pool(t, servers[0].url, servers[1].url)
	const size = 64 << 20
	content := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("pool"))).Read(content)
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var once sync.Once
	pushed, err := c.Push(ctx, "team/sonoma", "v1", transfer.Image{
		Config: []byte(`{"name":"sonoma","uuid":"5d1b40b9-7ad5-4c50-9f5a-2e0f7f5a0f00"}`),
		Files:  []transfer.File{{Name: fmt.Sprintf("%032x.ank", 1), Path: path}},
	}, transfer.PushOptions{Report: func(p transfer.Progress) {
		if p.Done > size/3 {
			once.Do(servers[0].kill)
		}
	}})
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	t.Logf("pushed %d bytes by sending %d", pushed.Size, pushed.Sent)
	if pushed.Sent > pushed.Size+pushed.Size/2 {
		t.Errorf("sent %d bytes for %d: the upload began anew", pushed.Sent, pushed.Size)
	}
	third := start(t, bin, dir)
	c = pool(t, servers[1].url, third.url)
	var pullOnce sync.Once
	pulled, err := c.Pull(ctx, "team/sonoma", "v1", t.TempDir(), transfer.PullOptions{Report: func(p transfer.Progress) {
		if p.Moved > size/3 {
			pullOnce.Do(servers[1].kill)
		}
	}})
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	got, err := os.ReadFile(pulled.Files[0].Path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("pulled %d bytes, %v", len(got), err)
	}
	if pulled.Fetched != size {
		t.Errorf("fetched %d bytes for %d", pulled.Fetched, size)
	}
}

// R14: a template is deleted while it is pulled. The pull ends or fails cleanly,
// and what shares its layer stays whole.
func TestDeleteDuringAPullEndsCleanly(t *testing.T) {
	bin := build(t)
	p := start(t, bin, t.TempDir())
	push(t, p.url, "team/doomed", "v1", 32<<20)
	push(t, p.url, "team/doomed", "v2", 1<<20)
	c := client(t, p.url)
	dir := t.TempDir()
	var once sync.Once
	_, err := c.Pull(context.Background(), "team/doomed", "v1", dir, transfer.PullOptions{Report: func(pr transfer.Progress) {
		if pr.Moved > 1<<20 {
			once.Do(func() {
				if err := c.DeleteManifest(context.Background(), "team/doomed", "v1"); err != nil {
					t.Errorf("delete: %v", err)
				}
			})
		}
	}})
	if _, serr := os.Stat(filepath.Join(dir, fmt.Sprintf("%032x.ank", 1))); (serr == nil) != (err == nil) {
		t.Errorf("pull said %v, and the file: %v", err, serr)
	}
	t.Logf("the pull under way: %v", err)
	if _, err := c.Pull(context.Background(), "team/doomed", "v1", t.TempDir(), transfer.PullOptions{}); err == nil {
		t.Error("the deleted tag is still pulled")
	}
	if _, err := c.Pull(context.Background(), "team/doomed", "v2", t.TempDir(), transfer.PullOptions{}); err != nil {
		t.Errorf("the tag that stays: %v", err)
	}
}
