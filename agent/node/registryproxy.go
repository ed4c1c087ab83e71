package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/agent/apikey"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/proxy"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// registryProxy is the loopback address at which the hypervisor's command finds the
// registries. It lets their transfers through, signs what passes, and counts it by
// repository.
type registryProxy struct {
	pools    *Pools
	listener net.Listener
	door     *door
	handler  http.Handler

	mu    sync.Mutex
	moved map[string]*atomic.Int64 // guarded by mu
}

func newRegistryProxy(pools *Pools) (*registryProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("loopback listener for the registries: %w", err)
	}
	p := &registryProxy{
		pools: pools, listener: l, door: newDoor(l, pools.log), moved: make(map[string]*atomic.Int64),
		handler: authorized(pools.toRegistries, proxy.New(proxy.Config{Control: pools.registries, Blob: pools.blobs, Step: oci.Step}, pools.log)),
	}
	at := l.Addr().String()
	pools.own.Store(&at)
	pools.calls.transfers(p.total)
	return p, nil
}

// total counts the bytes of all repositories.
func (p *registryProxy) total() (sum int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.moved {
		sum += c.Load()
	}
	return sum
}

// authorized adds the node's token to what passes. A pushed blob cannot be sent
// again after a 401, so that the token is seen to before.
func authorized(sign http.RoundTripper, next http.Handler) http.Handler {
	t, ok := sign.(*apikey.Transport)
	if !ok {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token := t.Token(r.Context(), "/v2/"); token != "" && r.Header.Get("Authorization") == "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		next.ServeHTTP(w, r)
	})
}

// URL is what the hypervisor's command is given.
func (p *registryProxy) URL() string { return "http://" + p.listener.Addr().String() }

// Moved counts bytes of a repository.
func (p *registryProxy) Moved(repository string) int64 { return p.counter(repository).Load() }

// Size returns the bytes of an image by its manifest.
func (p *registryProxy) Size(ctx context.Context, repository, tag string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, sizeTimeout)
	defer cancel()
	password, done, err := p.door.open(hypervisor.Transfer{Repository: repository})
	if err != nil {
		return 0, err
	}
	defer done()
	c, err := transfer.New(transfer.Config{Base: p.URL(), Authorize: func(r *http.Request) { r.SetBasicAuth(doorUser, password) }})
	if err != nil {
		return 0, err
	}
	m, err := c.Manifest(ctx, repository, tag)
	if errors.Is(err, transfer.ErrNotFound) {
		return 0, fmt.Errorf("%s:%s: %w", repository, tag, hypervisor.ErrNotInRegistry)
	}
	if err != nil {
		return 0, err
	}
	content, err := oci.ReadManifest(m.MediaType, m.Raw)
	if err != nil {
		return 0, fmt.Errorf("manifest of %s:%s: %w", repository, tag, err)
	}
	var size int64
	if content.Config != nil {
		size = content.Config.Size
	}
	for _, l := range content.Layers {
		size += l.Size
	}
	if len(content.Layers) == 0 || size <= 0 {
		return 0, fmt.Errorf("manifest of %s:%s names no layers", repository, tag)
	}
	return uint64(size), nil
}

// sizeTimeout bounds the question for a manifest.
const sizeTimeout = 30 * time.Second

func (p *registryProxy) counter(repository string) *atomic.Int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.moved[repository]
	if c == nil {
		c = new(atomic.Int64)
		p.moved[repository] = c
	}
	return c
}

// serve answers until ctx ends.
func (p *registryProxy) serve(ctx context.Context) error {
	return p.serveOn(ctx, p.listener, p.door, p.handler)
}

func (p *registryProxy) serveOn(ctx context.Context, l net.Listener, d *door, h http.Handler) error {
	srv := &proxy.Server{Listener: l, Handler: d.guard(p.counting(h)), Grace: time.Second, Log: p.pools.log}
	if err := srv.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil // what was cut off belonged to commands that have ended
}

// pushBase stands for the registries that are pushed to, as controllersBase does.
const pushBase = "http://push"

// Latest returns the newest tag of a template.
func (p *registryProxy) Latest(ctx context.Context, registries []string, id controllerapi.TemplateID) (tag string, err error) {
	err = p.withTemplate(ctx, registries, id, func(_ *registryapi.Client, t registryapi.Template) error {
		if n := len(t.Versions); n > 0 {
			tag = t.Versions[n-1].Tag
		}
		return nil
	})
	return tag, err
}

// Revert removes a tag of a template and every later one.
func (p *registryProxy) Revert(ctx context.Context, registries []string, id controllerapi.TemplateID, tag string) error {
	has := func(t registryapi.Template) bool {
		return slices.ContainsFunc(t.Versions, func(v registryapi.Version) bool { return v.Tag == tag })
	}
	return p.withTemplate(ctx, registries, id, func(c *registryapi.Client, t registryapi.Template) error {
		if !has(t) {
			return nil
		}
		err := c.Revert(ctx, string(id), registryapi.RevertTarget{Tag: tag})
		if err == nil {
			return nil
		}
		// An answer that was lost is asked for again, and then the tag is gone.
		if again, lookErr := c.Template(ctx, string(id)); lookErr == nil && !has(again) || noSuchTemplate(lookErr) {
			return nil
		}
		return err
	})
}

// withTemplate looks a template up, and does nothing where there is none.
func (p *registryProxy) withTemplate(ctx context.Context, registries []string, id controllerapi.TemplateID, do func(*registryapi.Client, registryapi.Template) error) error {
	c := p.pools.registryClient()
	if len(registries) > 0 {
		pool, err := p.pools.pool("push", RegistryCalls())
		if err != nil {
			return err
		}
		if err := pool.SetMembers(balancer.OriginJoin, registries); err != nil {
			return err
		}
		running, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { _ = pool.Run(running) }) // ends with running, and for nothing else
		defer wg.Wait()
		defer stop()
		c = registryapi.NewClient(pushBase, &http.Client{CheckRedirect: wire.NoRedirect, Transport: signed(pushBase, pool.Client().Transport, p.pools.cfg.Credentials)})
	}
	t, err := c.Template(ctx, string(id))
	switch {
	case noSuchTemplate(err):
		return nil
	case err != nil:
		return err
	}
	return do(c, t)
}

// noSuchTemplate: the registry understood the question.
func noSuchTemplate(err error) bool {
	refused, ok := registryapi.Answered(err)
	return ok && (refused.Failed() || refused.Status == http.StatusNotFound)
}

// Open lets a transfer through to the node's registries, or by a proxy of its own to
// others, until done is called.
func (p *registryProxy) Open(registries []string, t hypervisor.Transfer) (at hypervisor.Source, done func(), err error) {
	at = hypervisor.Source{URL: p.URL(), Moved: func() int64 { return p.Moved(t.Repository) }}
	d, end := p.door, func() {}
	if len(registries) > 0 {
		if at.URL, d, end, err = p.push(registries); err != nil {
			return at, nil, err
		}
	}
	password, shut, err := d.open(t)
	if err != nil {
		end()
		return at, nil, err
	}
	at.User = doorUser + ":" + password
	return at, func() { shut(); end() }, nil
}

// push opens a proxy to other registries until done is called.
func (p *registryProxy) push(registries []string) (url string, d *door, done func(), err error) {
	small, err := p.pools.pool("push", RegistryCalls())
	if err != nil {
		return "", nil, nil, err
	}
	blobs, err := p.pools.pool("push-blobs", p.pools.transfers())
	if err != nil {
		return "", nil, nil, err
	}
	for _, b := range []*balancer.Balancer{small, blobs} {
		if err := b.SetMembers(balancer.OriginJoin, registries); err != nil {
			return "", nil, nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, fmt.Errorf("loopback listener for the push: %w", err)
	}
	d = newDoor(l, p.pools.log)
	sign := signed(pushBase, small.Client().Transport, p.pools.cfg.Credentials)
	h := authorized(sign, proxy.New(proxy.Config{Control: small, Blob: blobs, Step: oci.Step}, p.pools.log))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = small.Run(ctx) })
	wg.Go(func() { _ = blobs.Run(ctx) })
	wg.Go(func() { _ = p.serveOn(ctx, l, d, h) })
	return "http://" + l.Addr().String(), d, func() { cancel(); wg.Wait() }, nil
}

func (p *registryProxy) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer p.pools.calls.request()
		if asked := oci.Of(r); asked.Repo != "" {
			c := p.counter(asked.Repo)
			w = &countingWriter{w, c}
			r = serve.WithBody(r, &countingBody{r.Body, c})
		}
		next.ServeHTTP(w, r)
	})
}
