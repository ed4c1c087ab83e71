package node

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// drainable are a node's pools, told over a socket of the test's own.
type drainable struct {
	*Pools
	tell func(route, url string, force bool) (DrainAnswer, error)
}

func newDrainable(t *testing.T, dir state.Dir, controllers, registries []string) drainable {
	t.Helper()
	p := testPools(t, zap.NewNop(), controllers[0], func(c *state.Config) { c.Controllers = controllers })
	var announced controllerapi.Cluster
	for _, u := range registries {
		announced.Registries = append(announced.Registries, controllerapi.Server{URL: u})
	}
	p.learn(zap.NewNop())(announced)
	d, err := p.drains(dir)
	if err != nil {
		t.Fatal(err)
	}
	at, err := os.MkdirTemp("", "drain") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(at) })
	path := filepath.Join(at, "s")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- socket.Serve(ctx, path, nil, d.Routes()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return drainable{p, func(route, url string, force bool) (a DrainAnswer, err error) {
		for { // until the socket is there
			err = socket.Tell(t.Context(), path, route, DrainRequest{URL: url, Force: force}, &a)
			if !errors.Is(err, socket.ErrNotRunning) {
				return a, err
			}
		}
	}}
}

func (d drainable) drainedIn() (pools []string) {
	for name, s := range map[string]balancer.Status{"controllers": d.status().Controllers, "registries": d.status().Registries, "blobs": d.status().Blobs} {
		for _, e := range s.Endpoints {
			if e.State == balancer.Draining {
				pools = append(pools, name+" "+strings.TrimPrefix(e.URL, "http://"))
			}
		}
	}
	slices.Sort(pools)
	return pools
}

// A server is drained in each pool that it is a member of, or in none, and stays so in
// the next process.
func TestDrainIsOfAllPoolsAndOutlastsTheProcess(t *testing.T) {
	t.Parallel()
	dir := state.Dir(t.TempDir())
	controllers, registries := []string{"http://both:1", "http://b:1"}, []string{"http://both:1", "http://r:1"}
	d := newDrainable(t, dir, controllers, registries)
	a, err := d.tell(PathDrain, "http://BOTH:1/", false)
	if err != nil || a.URL != "http://both:1" || !a.Drained || !a.OutlastsRestart || len(a.Pools) != 3 {
		t.Fatalf("got %+v, %v", a, err)
	}
	all := []string{"blobs both:1", "controllers both:1", "registries both:1"}
	if got := d.drainedIn(); !slices.Equal(got, all) {
		t.Errorf("drained in %q", got)
	}
	since := time.Now()
	for _, s := range a.Pools {
		if at := s.Endpoints[0].Since; at.Before(since) {
			since = at
		}
	}
	next := newDrainable(t, dir, controllers, registries)
	if got := next.drainedIn(); !slices.Equal(got, all) || !next.status().Controllers.Endpoints[0].Since.Equal(since) {
		t.Errorf("the next process: drained in %q since %v, want since %v", got, next.status().Controllers.Endpoints[0].Since, since)
	}
	if _, err := next.tell(PathUndrain, "http://both:1", false); err != nil {
		t.Fatal(err)
	}
	if got := newDrainable(t, dir, controllers, registries).drainedIn(); len(got) > 0 {
		t.Errorf("the process after the undrain: drained in %q", got)
	}
	if left, err := dir.Drained(); len(left) > 0 || err != nil {
		t.Errorf("stored: %v, %v", left, err)
	}
}

func TestDrainThatOnePoolRefusesIsNone(t *testing.T) {
	t.Parallel()
	dir := state.Dir(t.TempDir())
	d := newDrainable(t, dir, []string{"http://both:1"}, []string{"http://both:1", "http://r:1"})
	_, err := d.tell(PathDrain, "http://both:1", false)
	if !errors.Is(err, CodeLastUsable) || !strings.HasPrefix(err.Error(), "controllers: http://both:1: no other endpoint") {
		t.Errorf("got %v", err)
	}
	if left, _ := dir.Drained(); len(d.drainedIn()) > 0 || len(left) > 0 {
		t.Errorf("drained in %q, stored %v", d.drainedIn(), left)
	}
	if _, err := d.tell(PathDrain, "http://both:1", true); err != nil || len(d.drainedIn()) != 3 {
		t.Errorf("by force: %v, in %q", err, d.drainedIn())
	}
	if _, err := d.tell(PathDrain, "http://c:1", true); !errors.Is(err, wire.CodeNotFound) || err.Error() != "http://c:1 is none of the servers here: http://both:1, http://r:1" {
		t.Errorf("an unknown server: %v", err)
	}
	if _, err := d.tell(PathDrain, "c", true); !errors.Is(err, wire.CodeBadRequest) {
		t.Errorf("what is no URL: %v", err)
	}
}

// A full disk does not keep an operator from draining, and the answer tells of it.
func TestDrainThatIsNotStored(t *testing.T) {
	t.Parallel()
	p := testPools(t, zap.NewNop(), "http://a:1", func(c *state.Config) { c.Controllers = []string{"http://a:1", "http://b:1"} })
	d := NewDrains(map[string]*balancer.Balancer{"controllers": p.controllers}, func(map[string]time.Time) error { return errors.New("no space") })
	if _, err := d.drain(DrainRequest{URL: "http://b:1"}); err == nil || !strings.Contains(wire.AsError(err).Message, "would be used again after a restart: no space") {
		t.Errorf("got %v", err)
	}
	if got := slices.Collect(maps.Keys(p.controllers.Drained())); !slices.Equal(got, []string{"http://b:1"}) {
		t.Errorf("drained: %q", got)
	}
}

// A damaged file is no reason not to start, and an agent of before has no such call.
func TestDrainOfAnOldOrDamagedAgent(t *testing.T) {
	t.Parallel()
	dir := state.Dir(t.TempDir())
	if err := os.WriteFile(filepath.Join(string(dir), "drained.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testPools(t, zap.NewNop(), "http://a:1", nil)
	if d, err := p.drains(dir); err == nil || d == nil {
		t.Errorf("a damaged file: %v, %v", d, err)
	}
	at, err := os.MkdirTemp("", "drain")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(at)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- socket.Serve(ctx, filepath.Join(at, "s"), nil, nil) }()
	defer func() { cancel(); <-ended }()
	var a DrainAnswer
	for err = socket.ErrNotRunning; errors.Is(err, socket.ErrNotRunning); {
		err = socket.Tell(t.Context(), filepath.Join(at, "s"), PathDrain, DrainRequest{URL: "http://a:1"}, &a)
	}
	if err.Error() != "the agent does not know /endpoints/drain: it is of another version" {
		t.Errorf("got %v", err)
	}
}
