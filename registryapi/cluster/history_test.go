package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tagOp is an operation on a tag: put, delete or get.
type tagOp struct {
	kind   string
	digest digest.Digest // put
}

// tagResult is what it was answered: for get the digest, "" for none; for delete
// whether there was one. unknown means that it may have happened, or may yet.
type tagResult struct {
	digest  digest.Digest
	existed bool
	unknown bool
}

// tagModel is a register that can be deleted.
var tagModel = porcupine.Model{
	Init: func() any { return digest.Digest("") },
	Step: func(state, in, out any) (bool, any) {
		now, op, res := state.(digest.Digest), in.(tagOp), out.(tagResult)
		switch op.kind {
		case "put":
			return true, op.digest
		case "delete":
			// A host answers a delete that comes again as the first one, so that only
			// "there was none" tells something.
			return res.unknown || res.existed || now == "", digest.Digest("")
		}
		return res.digest == now, now
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// Pushes, deletes, reverts and look-ups of tags at all hosts, while hosts are cut
// off in turn, are those of one register.
func TestTagsAreLinearizable(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	seed := rand.Uint64()
	t.Log("seed", seed)
	const workers, each = 6, 25
	tags := []string{"a", "b"}
	for _, h := range c.hosts { // so that a revert of a tag never takes the template
		h.push("vm", "base", 100)
	}
	config, layer := c.hosts[0].pushBlob("vm", []byte(`{"name":"vm"}`)), c.hosts[0].pushBlob("vm", noise(1000))
	began := time.Now()
	var mu sync.Mutex
	history := make(map[string][]porcupine.Operation)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range each {
				h, tag := c.hosts[rng.IntN(3)], tags[rng.IntN(len(tags))]
				op, raw := tagOp{kind: "get"}, []byte(nil)
				switch n := rng.IntN(10); {
				case n < 4:
					raw = manifest(config, layer, fmt.Sprintf("%d.%d", w, i))
					op = tagOp{kind: "put", digest: digest.FromBytes(raw)}
				case n < 6:
					op.kind = "delete"
				}
				call := time.Since(began).Nanoseconds()
				res, counts := do(h, op, tag, raw)
				if !counts {
					continue
				}
				end := time.Since(began).Nanoseconds()
				if res.unknown {
					end = math.MaxInt64
				}
				mu.Lock()
				history[tag] = append(history[tag], porcupine.Operation{ClientId: w, Input: op, Call: call, Output: res, Return: end})
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
	for tag, ops := range history {
		unknown := 0
		for _, o := range ops {
			if o.Output.(tagResult).unknown {
				unknown++
			}
		}
		t.Logf("tag %s: %d operations, %d of unknown outcome", tag, len(ops), unknown)
		if got := porcupine.CheckOperationsTimeout(tagModel, ops, deadline); got == porcupine.Illegal {
			t.Errorf("tag %s: no register has this history: %v", tag, got)
		} else if got == porcupine.Unknown {
			t.Errorf("tag %s: not checked within %s", tag, deadline)
		}
	}
	// In the end all say the same.
	for _, tag := range tags {
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

// do makes an operation. counts is false for one that had no effect and tells
// nothing.
func do(h *host, op tagOp, tag string, raw []byte) (res tagResult, counts bool) {
	path := "/v2/vm/manifests/" + tag
	switch op.kind {
	case "put":
		a, err := h.try("PUT", path, raw, "Content-Type", ispec.MediaTypeImageManifest)
		return tagResult{unknown: err != nil || a.status != http.StatusCreated}, true
	case "delete":
		a, err := h.try("DELETE", path, nil)
		switch {
		case err == nil && a.status == http.StatusAccepted:
			return tagResult{existed: true}, true
		case err == nil && a.status == http.StatusNotFound:
			return tagResult{}, true
		}
		return tagResult{unknown: true}, true
	}
	a, err := h.try("HEAD", path, nil)
	switch {
	case err == nil && a.status == http.StatusOK:
		return tagResult{digest: digest.Digest(a.header.Get("Docker-Content-Digest"))}, true
	case err == nil && a.status == http.StatusNotFound:
		return tagResult{}, true
	}
	return res, false
}
