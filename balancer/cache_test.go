package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// T8: three black holes from the cache and one live address from the join,
// whichever of them has the first turn.
func TestT8BlackHolesInTheCache(t *testing.T) {
	for i := range 8 {
		method, first := []string{"GET", "POST"}[i%2], []string{"live", "x", "y", "z"}[i/2]
		t.Run(fmt.Sprint(method, " ", first), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cache.json")
			if err := writeCache(path, cacheFile{CloudID: "cloud", Pool: "endpoints", Endpoints: urls("x", "y", "z")}); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			cfg.Cache = CacheConfig{Path: path, CloudID: "cloud"}
			inWorld(t, cfg, nil, func(w *world) {
				for _, h := range []string{"x", "y", "z"} {
					w.net.Set(h+":80", faultnet.Fault{Hold: true})
				}
				w.serve("live")
				w.b.SetMembers(OriginJoin, urls("live"))
				if n := len(w.b.Status().Endpoints); n != 4 {
					t.Fatalf("%d endpoints, want 4", n)
				}
				start := time.Now()
				ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://"+first), 30*time.Second)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, method, "http://pool/x", strings.NewReader("body"))
				resp, err := w.b.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, _ := io.ReadAll(resp.Body)
				if string(got) != "live" || time.Since(start) > 2*time.Second {
					t.Errorf("got %q after %s, want it within 2s", got, time.Since(start))
				}
				for _, h := range []string{"x", "y", "z"} {
					w.net.Heal(h + ":80")
				}
			})
		})
	}
}

func TestT8AnyCacheStarts(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(path string) error{
		"missing":   func(string) error { return nil },
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"truncated": func(p string) error { return os.WriteFile(p, []byte(`{"cloud_id":"cloud","endp`), 0o600) },
		"foreign": func(p string) error {
			return writeCache(p, cacheFile{CloudID: "other", Pool: "endpoints", Endpoints: urls("x")})
		},
		"empty list": func(p string) error { return writeCache(p, cacheFile{CloudID: "cloud", Pool: "endpoints"}) },
		"directory":  func(p string) error { return os.Mkdir(p, 0o500) },
	} {
		path := filepath.Join(t.TempDir(), "cache.json")
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Cache = CacheConfig{Path: path, CloudID: "cloud"}
		b, err := New(cfg, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := len(b.Status().Endpoints); n != 0 {
			t.Errorf("%s: %d endpoints came from it", name, n)
		}
		if err := b.SetMembers(OriginLearned, urls("y")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.saveCache() // must not fail the pool either
	}
}

// T8: what the cloud announces now replaces what it announced before the restart.
func TestT8LearnedReplacesCached(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Cache = CacheConfig{Path: filepath.Join(t.TempDir(), "cache.json"), CloudID: "cloud"}
	if err := writeCache(cfg.Cache.Path, cacheFile{CloudID: "cloud", Pool: cfg.Name, Endpoints: urls("gone", "stays")}); err != nil {
		t.Fatal(err)
	}
	b, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.SetMembers(OriginJoin, urls("given")), b.SetMembers(OriginLearned, urls("stays", "new"))); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range b.Status().Endpoints {
		got = append(got, e.URL)
	}
	if want := urls("given", "stays", "new"); !slices.Equal(got, want) {
		t.Errorf("the pool is %v, want %v", got, want)
	}
}

// T8: what was learned in the last moment is there at the next start.
func TestT8WhatWasLearnedIsKept(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Cache = CacheConfig{Path: filepath.Join(t.TempDir(), "cache.json"), CloudID: "cloud"}
	b, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	if err := b.SetMembers(OriginLearned, urls("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list is written while it runs", func() bool { _, err := readCache(cfg.Cache, cfg.Name); return err == nil })
	if err := b.SetMembers(OriginLearned, urls("x", "y")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	next, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(next.Status().Endpoints); n != 2 {
		t.Errorf("%d endpoints came from the last run, want the 2 learned last", n)
	}
}

const cacheWriterEnv = "BALANCER_TEST_CACHE"

func TestMain(m *testing.M) {
	if path := os.Getenv(cacheWriterEnv); path != "" {
		for i := 0; ; i++ {
			writeCache(path, cacheFile{CloudID: "cloud", Pool: "p", Endpoints: urls(strings.Repeat(fmt.Sprint(i%10), 4000))})
		}
	}
	os.Exit(m.Run())
}

// T8: kill -9 while the cache is written leaves the old or the new.
func TestT8KilledWhileWritingTheCache(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache.json")
	for i := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), cacheWriterEnv+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the writer writes", func() bool { _, err := os.Stat(path); return err == nil })
		time.Sleep(time.Duration(i) * time.Millisecond) // another moment each time
		cmd.Process.Kill()
		cmd.Wait()
		if got, err := readCache(CacheConfig{Path: path, CloudID: "cloud"}, "p"); err != nil || len(got) != 1 || len(got[0]) != 4007 {
			t.Fatalf("kill %d left %d endpoints, %v", i, len(got), err)
		}
	}
}
