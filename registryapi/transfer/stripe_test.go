package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// limited serves h at no more than the given bytes a second over all its
// connections, as a registry behind a line of that width.
func limited(h http.Handler, perSecond int) http.Handler {
	l := rate.NewLimiter(rate.Limit(perSecond), 64<<10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&slowWriter{w, r.Context(), l}, r)
	})
}

type slowWriter struct {
	http.ResponseWriter
	ctx context.Context
	l   *rate.Limiter
}

func (w *slowWriter) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n := min(len(b)-done, 32<<10)
		if err := w.l.WaitN(w.ctx, n); err != nil {
			return done, err
		}
		m, err := w.ResponseWriter.Write(b[done : done+n])
		done += m
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// replicas are several registries with the content of one.
func replicas(t *testing.T, img Image, n int) []*registry {
	t.Helper()
	first := newRegistry()
	if _, err := client(t, serve(t, first, nil), nil).Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	list := []*registry{first}
	for len(list) < n {
		g := newRegistry()
		for k, v := range first.blobs {
			g.blobs[k] = append([]byte(nil), v...)
		}
		for k, v := range first.manifests {
			g.manifests[k] = v
		}
		list = append(list, g)
	}
	return list
}

func smallPieces(cfg *Config) { cfg.Piece = 1 << 20 }

// In virtual time: what is measured is the lines, not this machine.
func TestStripedPullFromThreeTakesAThirdOfTheTime(t *testing.T) {
	t.Parallel()
	const size, perSecond = 24 << 20, 1 << 20
	img := image(t, 1, size)
	gs := replicas(t, img, 3)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		network := faultnet.New()
		transport := &http.Transport{DialContext: network.DialContext, DisableCompression: true}
		defer transport.CloseIdleConnections()
		var clients []*Client
		for i, g := range gs {
			host := fmt.Sprintf("r%d", i)
			l, err := network.Listen(host + ":80")
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: limited(g, perSecond)}
			go func() { _ = srv.Serve(l) }()
			defer srv.Close()
			c, err := New(Config{Base: "http://" + host, HTTP: &http.Client{Transport: transport}, Piece: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
		}
		pull := func(n int) time.Duration {
			start := time.Now()
			pulled, err := clients[0].Pull(t.Context(), "sonoma", "v1", dirs[n-1], PullOptions{Stripe: clients[1:n]})
			if err != nil {
				t.Fatal(err)
			}
			sameFiles(t, img, pulled)
			if pulled.Fetched < size || pulled.Fetched > size+size/10 {
				t.Errorf("fetched %d bytes for %d", pulled.Fetched, size)
			}
			return time.Since(start)
		}
		one, two, three := pull(1), pull(2), pull(3)
		t.Logf("one registry %s, two %s, three %s: ratios %.3f and %.3f", one, two, three, two.Seconds()/one.Seconds(), three.Seconds()/one.Seconds())
		if two > one*6/10 || three > one*4/10 {
			t.Errorf("one registry took %s, two %s, three %s", one, two, three)
		}
	})
}

func TestStripedPullGoesOnWithoutABrokenRegistry(t *testing.T) {
	t.Parallel()
	img := image(t, 1, 12<<20, 100)
	gs := replicas(t, img, 3)
	var dead atomic.Bool
	cut := serve(t, gs[1], func() int64 { return 300_000 })
	dying := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if dead.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		gs[2].ServeHTTP(w, r)
	}), nil)
	few := func(cfg *Config) { smallPieces(cfg); cfg.Attempts = 3 }
	c := client(t, serve(t, limited(gs[0], 20<<20), nil), few)
	empty := client(t, serve(t, newRegistry(), nil), few)
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", t.TempDir(), PullOptions{Stripe: []*Client{client(t, cut, few), client(t, dying, few), empty}})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if gs[1].blobBytes() == 0 {
		t.Error("the registry that cuts connections served nothing")
	}
}

// The hung registry takes pieces and never sends them.
func TestStripedPullTakesPiecesFromAHungRegistry(t *testing.T) {
	t.Parallel()
	img := image(t, 1, 8<<20)
	gs := replicas(t, img, 2)
	hold := make(chan struct{})
	defer close(hold)
	hung := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}), nil)
	patient := func(cfg *Config) { smallPieces(cfg); cfg.Idle = time.Hour } // who waits for it waits too long
	c := client(t, serve(t, gs[0], nil), patient)
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", t.TempDir(), PullOptions{Stripe: []*Client{client(t, hung, patient)}})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
}

func TestStripedPullWithOneLyingRegistryEndsWithTheRightBytes(t *testing.T) {
	t.Parallel()
	img := image(t, 1, 6<<20)
	gs := replicas(t, img, 3)
	for dg, data := range gs[0].blobs {
		if len(data) > 1<<20 {
			for i := 0; i < len(data); i += 100_000 {
				data[i] ^= 1
			}
			gs[0].blobs[dg] = data
		}
	}
	var clients []*Client
	for _, g := range gs {
		clients = append(clients, client(t, serve(t, g, nil), smallPieces))
	}
	pulled, err := clients[0].Pull(ctx(t), "sonoma", "v1", t.TempDir(), PullOptions{Stripe: clients[1:]})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
}

func TestCancelledStripedPullKeepsItsPieces(t *testing.T) {
	t.Parallel()
	img := image(t, 1, 16<<20)
	var clients []*Client
	for _, g := range replicas(t, img, 2) {
		clients = append(clients, client(t, serve(t, limited(g, 16<<20), nil), smallPieces))
	}
	dir := t.TempDir()
	pullCtx, cancel := context.WithCancelCause(ctx(t))
	enough := errors.New("seen enough")
	var moved int64
	_, err := clients[0].Pull(pullCtx, "sonoma", "v1", dir, PullOptions{Stripe: clients[1:], Report: func(p Progress) {
		if moved = p.Moved; moved > 4<<20 {
			cancel(enough)
		}
	}})
	if !errors.Is(err, enough) {
		t.Fatalf("got %v, want the cause", err)
	}
	// Once striped, once in order: whatever was kept is not fetched again.
	pulled, err := clients[0].Pull(ctx(t), "sonoma", "v1", dir, PullOptions{Stripe: clients[1:]})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if pulled.Fetched > 16<<20-moved+2<<20 {
		t.Errorf("fetched %d bytes again, of %d after %d", pulled.Fetched, 16<<20, moved)
	}
}

func TestInOrderPullDropsTheIslandsOfAStripedOne(t *testing.T) {
	t.Parallel()
	img := image(t, 1, 3<<20)
	g := replicas(t, img, 1)[0]
	c := client(t, serve(t, g, nil), nil)
	m, err := c.Manifest(ctx(t), "sonoma", "v1")
	if err != nil {
		t.Fatal(err)
	}
	im, err := m.image()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := openPartial(dir, im.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(img.Files[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.scatter(), p.writeAt(data[:1<<20], 0), p.writeAt(data[2<<20:], 2<<20), p.advance(), p.close()); err != nil {
		t.Fatal(err)
	}
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", dir, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if pulled.Fetched != 2<<20 {
		t.Errorf("fetched %d bytes, want the %d after the gap", pulled.Fetched, 2<<20)
	}
	if _, err := os.Stat(filepath.Join(dir, partialDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftovers: %v", err)
	}
}

func TestExtentsAddMergesAndGapsComplement(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		add  [][2]int64
		want extents
		gaps []extent
	}{
		{nil, nil, []extent{{0, 100}}},
		{[][2]int64{{0, 100}}, extents{{0, 100}}, nil},
		{[][2]int64{{10, 20}, {30, 40}}, extents{{10, 20}, {30, 40}}, []extent{{0, 10}, {20, 30}, {40, 100}}},
		{[][2]int64{{30, 40}, {10, 20}, {20, 30}}, extents{{10, 40}}, []extent{{0, 10}, {40, 100}}},
		{[][2]int64{{10, 20}, {15, 35}, {5, 12}, {50, 50}}, extents{{5, 35}}, []extent{{0, 5}, {35, 100}}},
		{[][2]int64{{10, 20}, {30, 40}, {50, 60}, {0, 100}}, extents{{0, 100}}, nil},
	} {
		var e extents
		for _, a := range tc.add {
			e.add(a[0], a[1])
		}
		if len(e) != len(tc.want) {
			t.Errorf("%v: got %v, want %v", tc.add, e, tc.want)
			continue
		}
		for i := range e {
			if e[i] != tc.want[i] {
				t.Errorf("%v: got %v, want %v", tc.add, e, tc.want)
			}
		}
		gaps := e.gaps(0, 100)
		if len(gaps) != len(tc.gaps) {
			t.Errorf("%v: gaps %v, want %v", tc.add, gaps, tc.gaps)
			continue
		}
		for i := range gaps {
			if gaps[i] != tc.gaps[i] {
				t.Errorf("%v: gaps %v, want %v", tc.add, gaps, tc.gaps)
			}
		}
	}
}
