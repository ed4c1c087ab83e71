package cluster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/test/history/tags"
)

// Pushes, deletes, reverts and look-ups of tags at all hosts, while hosts are cut
// off in turn, are those of one register.
func TestTagsAreLinearizable(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	seed := rand.Uint64()
	t.Log("seed", seed)
	const workers, each = 6, 25
	names := []string{"a", "b"}
	for _, h := range c.hosts { // so that a revert of a tag never takes the template
		h.push("vm", "base", 100)
	}
	list, err := registryapi.NewClient(c.hosts[0].url(), plain).Templates(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("templates: %v, %v", list, err)
	}
	id := list[0].ID
	config, layer := c.hosts[0].pushBlob("vm", []byte(`{"name":"vm"}`)), c.hosts[0].pushBlob("vm", noise(1000))
	began := time.Now()
	var mu sync.Mutex
	var history []tags.Op // guarded by mu
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range each {
				h, raw := c.hosts[rng.IntN(3)], []byte(nil)
				op := tags.Op{Kind: tags.Read, Repo: "vm", Tag: names[rng.IntN(len(names))]}
				switch n := rng.IntN(10); {
				case n < 4:
					raw = manifest(config, layer, fmt.Sprintf("%d.%d", w, i))
					op.Kind, op.Digest = tags.Put, digest.FromBytes(raw).String()
				case n < 5:
					op.Kind = tags.Delete
				case n < 6:
					op.Kind = tags.Revert
				}
				op.Call = time.Since(began).Nanoseconds()
				do(h, &op, id, raw)
				op.Ret = time.Since(began).Nanoseconds()
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() {
		for i := 0; ; i++ {
			h := c.hosts[i%3]
			h.setCut(true)
			wait(stop, 300*time.Millisecond)
			h.setCut(false)
			if wait(stop, time.Second) {
				return
			}
		}
	})
	wg.Wait()
	close(stop)
	cutter.Wait()
	counts, errs := tags.Check(history, t.ArtifactDir(), deadline)
	t.Logf("%v answered, %d of unknown outcome", counts.ByKind, counts.Unknown)
	for _, err := range errs {
		t.Error(err)
	}
	// In the end all say the same.
	for _, tag := range names {
		var first string
		for i, h := range c.hosts {
			h.ready()
			a, err := h.try("HEAD", "/v2/vm/manifests/"+tag, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(a.status, a.header.Get("Docker-Content-Digest")); i == 0 {
				first = got
			} else if got != first {
				t.Errorf("tag %s: %s says %s, another %s", tag, h.name, got, first)
			}
		}
	}
}

// wait reports whether stop was closed within d.
func wait(stop <-chan struct{}, d time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(d):
		return false
	}
}

// do makes an operation and notes what it was answered.
func do(h *host, op *tags.Op, id string, raw []byte) {
	path := "/v2/" + op.Repo + "/manifests/" + op.Tag
	var a answer
	var err error
	switch op.Kind {
	case tags.Put:
		a, err = h.try("PUT", path, raw, "Content-Type", ispec.MediaTypeImageManifest)
		op.OK = a.status == http.StatusCreated
	case tags.Delete:
		a, err = h.try("DELETE", path, nil)
		op.Absent = a.status == http.StatusNotFound
		op.OK = op.Absent || a.status == http.StatusAccepted
	case tags.Revert:
		a, err = h.try("DELETE", "/registry/revert?id="+id+"&tag="+op.Tag, nil)
		op.Absent = bytes.Contains(a.body, []byte("No such tag"))
		op.OK = a.status == http.StatusOK && (op.Absent || bytes.Contains(a.body, []byte(`"OK"`)))
	default:
		a, err = h.try("HEAD", path, nil)
		op.OK = a.status == http.StatusOK || a.status == http.StatusNotFound
		op.Digest = a.header.Get("Docker-Content-Digest")
	}
	op.OK = op.OK && err == nil
}
