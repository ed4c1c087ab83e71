package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

const (
	// elsewhereLimit bounds the question whether another registry has what the
	// one that was asked has not.
	elsewhereLimit = 2 * time.Second
	// standstill is by how much a timer is late when this machine has stood still. A
	// busy one is a few milliseconds late.
	standstill = 20 * time.Millisecond
)

// within makes a call that may take limit. It makes it again, twice at most, when it
// failed because this machine stood still: that tells nothing of whom it asked.
func within[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (out T, err error) {
	for range 3 {
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, limit)
		out, err = call(attempt)
		cancel()
		if err == nil || ctx.Err() != nil || time.Since(began) <= limit+standstill {
			break
		}
	}
	return out, err
}

// registries are the registries of the cloud behind one balancer: the
// controller's own, and those that other controllers announce. Any may answer a
// read; changes go to the push registries where there are some, because replicas
// only follow.
type registries struct {
	ownURL string
	alias  string // what nodes call the own one
	own    *registryapi.Client
	any    *registryapi.Client
	pool   *balancer.Balancer
	direct *http.Client
	push   []string

	log *zap.Logger

	mu    sync.Mutex
	urls  []string            // guarded by mu; own first
	known map[string]surveyed // guarded by mu; by URL
	lists map[string]listed   // guarded by mu; by store
}

func newRegistries(cfg Config, log *zap.Logger) (*registries, error) {
	direct := cfg.RegistryHTTP
	if direct == nil {
		direct = &http.Client{CheckRedirect: wire.NoRedirect, Timeout: registryTimeout}
	}
	pool, err := balancer.New(cfg.RegistryPool, log)
	if err != nil {
		return nil, err
	}
	r := &registries{
		ownURL: cfg.registry(), alias: cfg.RegistryURL, own: registryapi.NewClient(cfg.registry(), direct),
		any: registryapi.NewClient("http://registries", pool.Client()), pool: pool, direct: direct, push: cfg.PushRegistries,
		log: log, known: make(map[string]surveyed), lists: make(map[string]listed),
	}
	if r.ownURL == "" {
		return r, nil
	}
	r.urls = []string{r.ownURL}
	return r, pool.SetMembers(balancer.OriginJoin, r.urls)
}

// follow makes the announced registries known. The own one may be announced
// under another address than this controller's.
func (r *registries) follow(announced []string) {
	others := slices.DeleteFunc(slices.Clone(announced), func(u string) bool { return u == r.ownURL || u == r.alias })
	urls := append([]string{r.ownURL}, others...)
	r.mu.Lock()
	same := slices.Equal(urls, r.urls)
	r.urls = urls
	r.mu.Unlock()
	if !same && len(others) > 0 {
		// Only a malformed URL is refused, and that one could not be used anyway.
		_ = r.pool.SetMembers(balancer.OriginLearned, others)
	}
}

// healthy returns the other registries that this controller can reach now. It
// announces them too: a registry must not leave the cloud's list because the
// one controller that is configured with it is dead or hung.
func (r *registries) healthy() []string {
	var urls []string
	for _, ep := range r.pool.Status().Endpoints {
		if ep.URL != r.ownURL && ep.State == balancer.Healthy {
			urls = append(urls, ep.URL)
		}
	}
	return urls
}

// change runs do on the first push registry that answers, or, without push
// registries, on any registry.
func (r *registries) change(ctx context.Context, do func(context.Context, *registryapi.Client) error) error {
	if len(r.push) == 0 {
		return do(ctx, r.any)
	}
	var errs []error
	for _, url := range r.push {
		err := do(ctx, registryapi.NewClient(url, r.direct))
		if _, ok := registryapi.Answered(err); err == nil || ok {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// elsewhere asks every registry for a template, because the one that was asked
// first may be a replica that lags. It returns the first answer that satisfies
// good. Without one, absent says whether that is certain: every push registry,
// or without push registries every registry, has answered or is known to be write-only.
func (r *registries) elsewhere(ctx context.Context, id string, good func(registryapi.Template) bool) (found *registryapi.Template, absent error) {
	return within(ctx, elsewhereLimit, func(ctx context.Context) (*registryapi.Template, error) { return r.askAll(ctx, id, good) })
}

func (r *registries) askAll(ctx context.Context, id string, good func(registryapi.Template) bool) (found *registryapi.Template, absent error) {
	urls := r.all()
	type answer struct {
		url string
		t   registryapi.Template
		err error
	}
	answers := make(chan answer, len(urls)) // every asker can end, also unheard
	for _, url := range urls {
		go func() { // ends with its call, which ctx bounds
			t, err := registryapi.NewClient(url, r.direct).Template(ctx, id)
			answers <- answer{url, t, err}
		}()
	}
	for range urls {
		a := <-answers
		answered, ok := registryapi.Answered(a.err)
		switch {
		case a.err == nil && good(a.t):
			return &a.t, nil
		case a.err == nil, ok && answered.Status < 500:
		case len(r.push) == 0 || slices.Contains(r.push, a.url):
			absent = a.err
		}
	}
	return nil, absent
}
