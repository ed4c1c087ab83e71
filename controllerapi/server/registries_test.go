package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/registryapi"
	"go.uber.org/zap"
)

// withVersion is the fake registry's template with one more tag.
func withVersion(f *fakeRegistry, tag string) {
	f.set(func(f *fakeRegistry) {
		t := &f.templates[0]
		t.Versions = append(t.Versions, registryapi.Version{Tag: tag, Number: len(t.Versions), Images: []string{}, StateFiles: []string{}, Digest: "sha256:" + tag})
	})
}

// twoRegistries is a cloud whose first controller has the first registry as its
// own, and knows the other one from the second controller.
func twoRegistries(t *testing.T) (first *controller, own, other *fakeRegistry) {
	etcd := dialEtcd(t, startEtcd(t, nil))
	own, other = startRegistry(t), startRegistry(t)
	first = startController(t, etcd, own.URL, nil)
	startController(t, etcd, other.URL, nil)
	eventually(t, "both registries are known", func() bool { return len(first.lists().Registries) == 2 })
	first.catalog.regs.follow([]string{own.URL, other.URL})
	eventually(t, "both registries are in the pool", func() bool { return len(first.catalog.regs.pool.Status().Endpoints) == 2 })
	return first, own, other
}

func TestStartGoesOnWhenTheOwnRegistryDies(t *testing.T) {
	t.Parallel()
	first, own, other := twoRegistries(t)
	withVersion(other, "v3")
	own.Close()
	if _, err := api.NewClient(first.URL, http.DefaultClient).Start(t.Context(), api.StartRequest{VMID: "tpl-1", Tag: "v3"}); err != nil {
		t.Errorf("start with the own registry dead: %v, want none: another registry has the tag", err)
	}
}

func TestTagThatAReplicaLacksIsAskedElsewhere(t *testing.T) {
	t.Parallel()
	first, _, other := twoRegistries(t)
	withVersion(other, "v3")
	for range 4 { // whichever registry is asked first
		if _, err := api.NewClient(first.URL, http.DefaultClient).Start(t.Context(), api.StartRequest{VMID: "tpl-1", Tag: "v3"}); err != nil {
			t.Errorf("start with a tag that one of two registries has: %v, want none", err)
		}
	}
}

func TestAbsenceIsNotToldFromMemory(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	client := api.NewClient(c.controllers[0].URL, http.DefaultClient)
	if _, err := client.Start(t.Context(), api.StartRequest{VMID: "tpl-1", Tag: "v2"}); err != nil {
		t.Fatalf("start while the registry answers: %v", err)
	}
	c.registry.set(func(f *fakeRegistry) { f.down = true })
	_, err := client.Start(t.Context(), api.StartRequest{VMID: "tpl-1", Tag: "v3"})
	if answered, ok := api.Answered(err); !ok || answered.Status != http.StatusServiceUnavailable {
		t.Errorf("start with an unknown tag while no registry answers: %v, want a 503: the tag may exist", err)
	}
	if _, err := client.Start(t.Context(), api.StartRequest{VMID: "tpl-1", Tag: "v2"}); err != nil {
		t.Errorf("start with a known tag while no registry answers: %v, want none: the pull verifies it", err)
	}
}

// One question that was lost is not a registry that is down: this machine may
// have stood still.
func TestRegistryThatMissesOneQuestionRuns(t *testing.T) {
	t.Parallel()
	var asked, from, to atomic.Int64 // questions from and before to are not answered
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := asked.Add(1); n >= from.Load() && n < to.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"status":"OK","body":{"status":"Running"}}`)
	}))
	t.Cleanup(registry.Close)
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // else http asks again by itself
	cfg := DefaultConfig()
	cfg.RegistryURL, cfg.RegistryHTTP = registry.URL, hc
	c, err := newCatalog(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if !c.probe(t.Context()) || !c.running() {
		t.Fatal("a registry that answers does not run")
	}
	for lost, want := range []bool{true, true, false} {
		from.Store(asked.Load() + 1)
		to.Store(from.Load() + int64(lost))
		if changed := c.probe(t.Context()); changed == want || c.running() != want {
			t.Errorf("after %d questions without an answer: running %v, changed %v; want running %v", lost, c.running(), changed, want)
		}
	}
}

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Registries are asked again when the time for their answers passed because this
// machine stood still, and not when they were slow.
func TestAbsenceIsNotToldAfterAStandstill(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stood time.Duration // beyond the limit
		known bool
	}{{0, false}, {standstill, false}, {3 * time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			cfg := DefaultConfig()
			cfg.RegistryURL = "http://registry"
			cfg.RegistryHTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if asked++; asked == 1 {
					<-r.Context().Done()
					time.Sleep(test.stood)
					return nil, r.Context().Err()
				}
				body := `{"status":"OK","body":{"id":"x"}}`
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			})}
			c, err := newCatalog(cfg, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			found, absent := c.regs.elsewhere(t.Context(), "x", func(registryapi.Template) bool { return true })
			if (found != nil) != test.known || (absent == nil) != test.known {
				t.Errorf("stood still for %s: found %v, %v; want it known %v", test.stood, found, absent, test.known)
			}
		})
	}
}

func TestRegistryStaysListedWhenItsControllerDies(t *testing.T) {
	t.Parallel()
	etcd := dialEtcd(t, startEtcd(t, nil))
	own, other := startRegistry(t), startRegistry(t)
	first := startController(t, etcd, own.URL, nil)
	second := startController(t, etcd, other.URL, nil)
	eventually(t, "the first controller reaches the other's registry", func() bool {
		return slices.Contains(first.catalog.regs.healthy(), other.URL)
	})
	eventually(t, "and announces it", func() bool {
		announced := 0
		first.store.Read(func(v *cloud.View) {
			for _, srv := range v.Servers {
				if srv.URL == other.URL {
					announced++
				}
			}
		})
		return announced == 2
	})
	second.stop()
	// A test that stands still may find the registry slow, and not announce it for a moment.
	eventually(t, "the second controller is gone, and its registry, which lives, is not", func() bool {
		lists := first.lists()
		return len(lists.Controllers) == 1 && len(lists.Registries) == 2
	})
}
