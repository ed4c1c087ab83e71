package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Of two servers on one directory one copies. The other serves what it copied,
// takes over when it ends, and knows then what it may delete.
func TestOneOfTwoServersOnADirectoryCopies(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	const size = 1 << 20
	push.push("team/sonoma", "v1", noise(size))
	push.push("team/gone", "v1", noise(1000))
	root := t.TempDir()
	pair := []*registry{start(t, options{root: root, sources: []string{push.url}}), start(t, options{root: root, sources: []string{push.url}})}
	one := func() (active *registry) {
		eventually(t, "one of the two copies", func() bool {
			active = nil
			for _, r := range pair {
				if r.rep.State().Active {
					active = r
				}
			}
			return active != nil
		})
		return active
	}
	first := one()
	second := pair[0]
	if second == first {
		second = pair[1]
	}
	eventually(t, "the first has copied", func() bool { return first.rep.State().InSync })
	for _, r := range pair {
		if r.state() != push.state() {
			t.Errorf("got %s, want %s", r.state(), push.state())
		}
	}
	if err := second.pullsEverything(); err != nil {
		t.Errorf("from the server that does not copy: %v", err)
	}
	if second.rep.State().Active || second.rep.State().InSync || second.rep.State().CopiedBytes != 0 {
		t.Errorf("both copy: %+v", second.rep.State())
	}
	if n := push.served.Load(); n > size*3/2 {
		t.Errorf("the source served %d bytes for %d", n, size)
	}
	first.stop()
	if err := push.oci.DeleteManifest(context.Background(), "team/gone", "v1"); err != nil {
		t.Fatal(err)
	}
	push.push("team/sonoma", "v2", noise(1000))
	if one() != second {
		t.Fatal("the first, which has ended, copies")
	}
	converge(t, push, second)
	if strings.Contains(second.state(), "team/gone") {
		t.Errorf("what was deleted is still there:\n%s", second.state())
	}
}

// A limit is for all copies together, and never exceeded: the time is bounded
// from below alone, for a busy machine is slower.
func TestBandwidthIsNeverExceeded(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	const perSecond, blobs, size = 4 << 20, 3, 1 << 20
	for i := range blobs {
		push.push(fmt.Sprintf("t%d", i), "v1", noise(size))
	}
	began := time.Now()
	replica := start(t, options{sources: []string{push.url}, config: func(c *Config) { c.Bandwidth = perSecond }})
	converge(t, push, replica)
	took := time.Since(began)
	const saved = perSecond / 4 // what may pass at once after a pause
	if least := time.Duration(blobs*size-saved) * time.Second / perSecond; took < least {
		t.Errorf("%d bytes at %d a second took %s, want at least %s", blobs*size, perSecond, took, least)
	}
	if err := replica.pullsEverything(); err != nil {
		t.Error(err)
	}
}

// Several push registries take the same tags in any order while replicas watch.
// In the end all replicas hold the same: for each tag the later push.
func TestConflictsResolveTheSameEverywhere(t *testing.T) {
	t.Parallel()
	sources := []*registry{start(t, options{}), start(t, options{}), start(t, options{})}
	var urls []string
	for _, s := range sources {
		urls = append(urls, s.url)
	}
	replicas := []*registry{
		start(t, options{sources: []string{urls[0], urls[1], urls[2]}}),
		start(t, options{sources: []string{urls[2], urls[0], urls[1]}}),
	}
	var wg sync.WaitGroup
	for i, s := range sources {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			for range 12 {
				repo, tag := fmt.Sprintf("t%d", rng.IntN(3)), fmt.Sprintf("v%d", rng.IntN(3))
				if rng.IntN(4) == 0 {
					if err := s.oci.DeleteManifest(context.Background(), repo, tag); err != nil && !errors.Is(err, transfer.ErrNotFound) {
						t.Error(err)
					}
				} else if _, err := s.tryPush(repo, tag, noise(500)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// One that heard of nothing before comes to the same.
	replicas = append(replicas, start(t, options{sources: []string{urls[1], urls[2], urls[0]}}))
	eventually(t, "all replicas are in sync and the same", func() bool {
		for _, r := range replicas {
			if !r.rep.State().InSync || r.state() != replicas[0].state() {
				return false
			}
		}
		return true
	})
	for repo := range 3 {
		latest := map[string]int64{}
		for _, s := range sources {
			st, err := s.rest.Repository(context.Background(), fmt.Sprintf("t%d", repo))
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range st.Tags {
				latest[tag.Tag] = max(latest[tag.Tag], tag.Order)
			}
		}
		st, err := replicas[0].rest.Repository(context.Background(), fmt.Sprintf("t%d", repo))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, tag := range st.Tags {
			got[tag.Tag] = tag.Order
		}
		if fmt.Sprint(got) != fmt.Sprint(latest) {
			t.Errorf("t%d: got %v, the sources have %v", repo, got, latest)
		}
	}
	for _, r := range replicas {
		if err := r.pullsEverything(); err != nil {
			t.Error(err)
		}
	}
}
