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
	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/nextround"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

const (
	probeEvery = 3 * time.Second
	probeLimit = 2 * time.Second
)

// catalog is the registry's templates as the controller needs them. Answers are
// live; while the registry does not answer, the last one is given if it is not
// too old.
type catalog struct {
	cfg  Config
	log  *zap.Logger
	regs *registries

	lookups nextround.Group[string, lookup]

	mu        sync.Mutex
	list      []registryapi.Template          // guarded by mu
	listAt    time.Time                       // guarded by mu
	templates map[string]registryapi.Template // guarded by mu; with versions, last known
	status    *registryapi.Status             // guarded by mu; nil while it does not answer
	draining  bool                            // guarded by mu
	apart     string                          // guarded by mu; which registries hold different templates
	untrusted string                          // guarded by mu; why its certificate is not accepted
}

// lookup is what asking the registry for a template came to.
type lookup struct {
	val   registryapi.Template
	stale bool // val is from memory: no registry answered
	err   error
}

func newCatalog(cfg Config, log *zap.Logger) (*catalog, error) {
	regs, err := newRegistries(cfg, log)
	if err != nil {
		return nil, err
	}
	return &catalog{
		cfg: cfg, log: log, regs: regs,
		templates: make(map[string]registryapi.Template),
	}, nil
}

// watchRegistry keeps the registry's condition known and announced.
func (s *Server) watchRegistry(ctx context.Context) {
	if s.cfg.registry() == "" {
		return
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var told []string
	for {
		var urls []string
		for _, r := range s.lists().Registries {
			urls = append(urls, r.URL)
		}
		s.catalog.regs.follow(urls)
		var others sync.WaitGroup
		others.Go(func() { s.catalog.regs.survey(ctx) })
		changed := s.catalog.probe(ctx)
		others.Wait()
		s.catalog.judgeRegistries()
		healthy := s.catalog.regs.healthy()
		if changed || !slices.Equal(healthy, told) {
			s.store.Announce(s.announcement())
			told = healthy
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// probe asks the registry how it is, and reports whether that differs from before.
func (c *catalog) probe(ctx context.Context) bool {
	status, err := c.askStatus(ctx)
	answered, ok := registryapi.Answered(err)
	if err != nil && !ok && c.running() {
		// It ran a moment ago, and it may be this machine that stood still.
		status, err = c.askStatus(ctx)
		answered, ok = registryapi.Answered(err)
	}
	draining := ok && answered.Status == http.StatusServiceUnavailable
	c.mu.Lock()
	defer c.mu.Unlock()
	was, wasDraining := c.status, c.draining
	c.status, c.draining = nil, draining
	if err == nil {
		c.status = &status
	}
	if (was == nil) != (c.status == nil) {
		c.log.Info("registry changed", zap.Bool("running", c.status != nil), zap.Error(err))
	}
	if why := notTrusted(err); why != c.untrusted {
		if c.untrusted = why; why != "" {
			c.log.Error("the registry cannot be used", zap.String("url", c.regs.ownURL), zap.String("reason", why))
		}
	}
	return wasDraining != draining || (was == nil) != (c.status == nil) || was != nil && (was.Version != c.status.Version || was.Status != c.status.Status)
}

func (c *catalog) askStatus(ctx context.Context) (registryapi.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	status, err := c.regs.own.Status(ctx)
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	return status, err
}

func (c *catalog) running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status != nil
}

// announced is the registry as the cloud's list shows it. One that does not
// answer us stays listed: nodes may reach it, and judge for themselves.
func (c *catalog) announced() api.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := api.Server{ID: c.cfg.RegistryURL, URL: c.cfg.RegistryURL, State: api.ServerReady}
	if c.draining {
		out.State = api.ServerDraining
	}
	if c.status != nil {
		out.Version = c.status.Version
	}
	return out
}

// errNoTemplate: the registry has no such template.
var errNoTemplate = errors.New("template is not in the registry")

// errNoRegistry is the answer to a call that needs the registry and has none.
func errNoRegistry(err error) error {
	if why := notTrusted(err); why != "" {
		return wire.Unavailable(why, err)
	}
	return wire.Unavailable("the registry does not answer", err)
}

// notTrusted returns what to do when the registry's certificate is not accepted,
// and "" for any other error. To ask again is of no use then.
func notTrusted(err error) string {
	if pass, ok := errors.AsType[*balancer.PassError](err); ok {
		for _, a := range pass.Attempts {
			if _, _, ok := clienttls.Reason(a.Err); !ok {
				return "" // another registry may answer next time
			}
		}
	}
	why, unknown, ok := clienttls.Reason(err)
	switch {
	case !ok:
		return ""
	case unknown:
		return "the registry is not trusted: " + why + "; name that authority's certificate in the controller's --registry-ca-cert (ANKA_REGISTRY_CA_CERT)"
	}
	return "the registry is not trusted: " + why
}

// all returns the list of templates.
func (c *catalog) all(ctx context.Context) ([]registryapi.Template, error) {
	if c.cfg.registry() == "" {
		return nil, nil
	}
	list, err := retryRegistry(ctx, c.regs.templates)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.list, c.listAt = list, time.Now()
		return list, nil
	}
	if _, ok := registryapi.Answered(err); ok {
		return nil, errNoRegistry(err)
	}
	if !c.listAt.IsZero() && time.Since(c.listAt) < c.cfg.RegistryListCacheTTL {
		return c.list, nil
	}
	return nil, errNoRegistry(err)
}

// template returns one template with its versions, live where a registry answers.
func (c *catalog) template(ctx context.Context, id string) (registryapi.Template, error) {
	return c.templateWith(ctx, id, func(registryapi.Template) bool { return true })
}

// templateWith is template for a caller that looks for something in it: what the
// registry that answered lacks, another may have. Absence is told only when it
// is certain; a stale memory or a registry that does not answer proves none.
func (c *catalog) templateWith(ctx context.Context, id string, good func(registryapi.Template) bool) (registryapi.Template, error) {
	if c.cfg.registry() == "" || api.TemplateID(id).Check() != nil {
		return registryapi.Template{}, errNoTemplate
	}
	f, err := c.lookups.Do(ctx, id, func(ctx context.Context) lookup { return c.lookUp(ctx, id) })
	if err != nil {
		return registryapi.Template{}, err
	}
	if f.err == nil && good(f.val) || f.err != nil && !errors.Is(f.err, errNoTemplate) {
		return f.val, f.err
	}
	if found, absent := c.regs.elsewhere(ctx, id, good); found != nil {
		return *found, nil
	} else if absent != nil || f.stale {
		return registryapi.Template{}, errNoRegistry(absent)
	}
	return f.val, f.err
}

// lookUp asks the registry. A caller that comes after it has begun may have
// pushed meanwhile, and shares the next one.
func (c *catalog) lookUp(ctx context.Context, id string) (f lookup) {
	f.val, f.err = retryRegistry(ctx, func(ctx context.Context) (registryapi.Template, error) { return c.regs.template(ctx, id) })
	c.mu.Lock()
	defer c.mu.Unlock()
	answered, ok := registryapi.Answered(f.err)
	switch {
	case f.err == nil:
		c.templates[id] = f.val
	case ok && answered.Failed():
		delete(c.templates, id)
		f.err = errNoTemplate
	default:
		if known, ok := c.templates[id]; ok {
			c.log.Warn("registry does not answer, using what is known of the template", zap.String("template_id", id), zap.Error(f.err))
			return lookup{val: known, stale: true}
		}
		f.err = errNoRegistry(f.err)
	}
	return f
}

// registryPace is that of a read that no registry answered.
var registryPace = backoff.Pace{Min: 50 * time.Millisecond, Max: time.Second}

// retryRegistry repeats a read while the registry does not answer, because no CI
// client does.
func retryRegistry[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	for failures := 0; ; failures++ {
		attempt, done := context.WithTimeout(ctx, registryTimeout/3)
		val, err := call(attempt)
		done()
		answered, ok := registryapi.Answered(err)
		if err == nil || ok && answered.Status < 500 || notTrusted(err) != "" {
			return val, err
		}
		if !registryPace.Wait(ctx, failures) {
			return val, err
		}
	}
}

// resolve finds the version of a template that a start request asks for.
func (c *catalog) resolve(ctx context.Context, id api.TemplateID, tag string, version *int) (api.TemplateRef, string, error) {
	t, err := c.templateWith(ctx, string(id), func(t registryapi.Template) bool { return t.Find(tag, version) != nil })
	if errors.Is(err, errNoTemplate) {
		return api.TemplateRef{}, "", api.ErrNoSuchTemplate.Fail(api.MsgNoSuchTemplate)
	}
	if err != nil {
		return api.TemplateRef{}, "", err
	}
	v := t.Find(tag, version)
	if v == nil {
		return api.TemplateRef{}, "", noVersion(tag, version)
	}
	arch := v.Arch
	if arch == "" {
		arch = t.Arch
	}
	ref := api.TemplateRef{ID: id, Name: t.Name, Repository: t.Repository, Tag: v.Tag, Digest: v.Digest, Size: v.Size}
	if err := ref.Check(); err != nil {
		return api.TemplateRef{}, "", wire.Failf("the registry's entry of the template cannot be used: %v", err)
	}
	return ref, arch, nil
}

// noVersion is the answer when a template has no such version.
func noVersion(tag string, version *int) error {
	switch {
	case tag != "":
		return api.ErrNoSuchVersion.Fail(api.MsgNoSuchTagPrefix + tag)
	case version != nil:
		return api.ErrNoSuchVersion.Failf("No such version %d", *version)
	}
	return api.ErrNoSuchVersion.Fail("the template has no version")
}
