package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/registryapi"
	"go.uber.org/zap"
)

// surveyed is what a registry said of itself last.
type surveyed struct {
	// store names what it holds: registries with the same one give the same answers.
	store   string
	replica bool // it copies all from others
	err     error
}

// survey asks every registry what it holds. One that does not answer counts as
// what it was.
func (r *registries) survey(ctx context.Context) {
	urls := r.all()
	var wg sync.WaitGroup
	for _, url := range urls {
		wg.Go(func() {
			status, err := within(ctx, probeLimit, registryapi.NewClient(url, r.direct).Status)
			r.mu.Lock()
			defer r.mu.Unlock()
			s := r.known[url]
			if s.err = err; err == nil {
				s.store, s.replica = storeOf(url, status), status.Replication != nil && len(status.Replication.Sources) > 0
			}
			r.known[url] = s
		})
	}
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.known, func(url string, _ surveyed) bool { return !slices.Contains(urls, url) })
	maps.DeleteFunc(r.lists, func(store string, _ listed) bool {
		return !slices.ContainsFunc(urls, func(url string) bool { return r.known[url].store == store })
	})
}

// up tells which registries answer.
func (r *registries) up() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]bool, len(r.known))
	for url, s := range r.known {
		out[url] = s.err == nil
	}
	return out
}

// storeOf names what a registry holds: the catalogue that it has together with
// others, else its directory. A registry of an older version does not tell: it may
// hold what another one does, or not.
func storeOf(url string, status registryapi.Status) string {
	switch {
	case status.Cluster != nil && status.Cluster.Catalogue != "":
		return status.Cluster.Catalogue
	case status.Cluster == nil && status.Store != "":
		return status.Store
	}
	return untold + url
}

const untold = "not told by "

// all are the registries of the cloud and those that are pushed to, sorted.
func (r *registries) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.urls, r.push))))
}

// plan says which registries' answers together are the cloud's templates. The
// answer must be the same whichever registry is asked first: replicas lag, so that
// they are asked only when no store that they may copy from answers.
type plan struct {
	stores   map[string][]string // URLs by store; those that a list is made of
	replicas []string
	islands  []string // stores that hold templates of their own and are copied by nobody
}

func (r *registries) plan() plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := plan{stores: make(map[string][]string)}
	pushed := make(map[string]bool)
	for url, s := range r.known {
		switch {
		case s.store == "": // it has never answered
		case s.replica:
			p.replicas = append(p.replicas, url)
		default:
			p.stores[s.store] = append(p.stores[s.store], url)
			if slices.Contains(r.push, url) {
				pushed[s.store] = true
			}
		}
	}
	for _, urls := range p.stores {
		// The own one first, for it is near.
		slices.SortFunc(urls, func(a, b string) int {
			if (a == r.ownURL) != (b == r.ownURL) {
				return cmp.Compare(b2i(b == r.ownURL), b2i(a == r.ownURL))
			}
			return strings.Compare(a, b)
		})
	}
	slices.Sort(p.replicas)
	// Several registries that are pushed to are copied by the same replicas; what
	// belongs to none of them is an island. Without any, each store should be the
	// only one.
	for store := range p.stores {
		if !pushed[store] && !strings.HasPrefix(store, untold) {
			p.islands = append(p.islands, store)
		}
	}
	if len(pushed) == 0 && len(p.islands) == 1 {
		p.islands = nil
	}
	slices.Sort(p.islands)
	return p
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// apart says which registries hold templates of their own, "" when all is well.
func (p plan) apart() string {
	if len(p.islands) == 0 {
		return ""
	}
	var parts []string
	for _, store := range slices.Sorted(maps.Keys(p.stores)) {
		parts = append(parts, fmt.Sprintf("%s (store %s)", strings.Join(slices.Sorted(slices.Values(p.stores[store])), ", "), short(store)))
	}
	return "registries of this cloud hold different templates and do not copy from one another: " + strings.Join(parts, " and ") +
		"; what only one of them has is lost with it. See docs/operators/high-availability.md"
}

// short is enough of an id to tell it from others.
func short(id string) string {
	if len(id) > 12 && !strings.Contains(id, "://") {
		return id[:12]
	}
	return id
}

// listed is a store's list as it was told last.
type listed struct {
	templates []registryapi.Template
	lost      bool // it was told that the store does not answer
}

// templates returns the templates of the cloud.
func (r *registries) templates(ctx context.Context) ([]registryapi.Template, error) {
	p := r.plan()
	if len(p.stores) <= 1 && len(p.replicas) == 0 {
		return r.any.Templates(ctx) // any registry gives the same answer
	}
	type answer struct {
		store string
		list  []registryapi.Template
		err   error
	}
	answers := make(chan answer, len(p.stores)) // every asker can end, also unheard
	for store, urls := range p.stores {
		go func() { // ends with its calls, which ctx bounds
			list, err := firstOf(ctx, r, urls, func(ctx context.Context, c *registryapi.Client) ([]registryapi.Template, error) {
				return c.Templates(ctx)
			})
			answers <- answer{store, list, err}
		}()
	}
	merged := make(map[string]registryapi.Template)
	var errs []error
	answered := 0
	for range p.stores {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
		} else {
			answered++
		}
		for _, t := range r.remember(a.store, p.stores[a.store], a.list, a.err) {
			merge(merged, t)
		}
	}
	if len(errs) > 0 || len(p.stores) == 0 {
		for _, url := range p.replicas {
			list, err := firstOf(ctx, r, []string{url}, func(ctx context.Context, c *registryapi.Client) ([]registryapi.Template, error) {
				return c.Templates(ctx)
			})
			if err != nil {
				errs = append(errs, err)
				continue
			}
			answered++
			for _, t := range list {
				merge(merged, t)
			}
		}
	}
	if answered == 0 {
		return nil, errors.Join(errs...)
	}
	return slices.SortedFunc(maps.Values(merged), func(a, b registryapi.Template) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	}), nil
}

// remember keeps a store's list, and returns the last one of a store that does not
// answer: its templates do not vanish from the list, and the log says so.
func (r *registries) remember(store string, urls []string, list []registryapi.Template, err error) []registryapi.Template {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.lists[store]
	if err == nil {
		r.lists[store] = listed{templates: list}
		return list
	}
	if !was.lost {
		r.log.Warn("the registries of a store do not answer; its templates are listed as they were",
			zap.Strings("urls", urls), zap.Int("templates", len(was.templates)), zap.Error(err))
		was.lost = true
		r.lists[store] = was
	}
	return was.templates
}

// merge adds a template. Of several with one id the one that was pushed to last
// counts, then the larger one, then the one with the lesser repository: a rule that
// depends on nothing but what the registries hold.
func merge(into map[string]registryapi.Template, t registryapi.Template) {
	old, ok := into[t.ID]
	if !ok || cmp.Or(cmp.Compare(t.LastPush, old.LastPush), cmp.Compare(t.Size, old.Size), strings.Compare(old.Repository, t.Repository)) > 0 {
		into[t.ID] = t
	}
}

// template returns a template with its versions.
func (r *registries) template(ctx context.Context, id string) (registryapi.Template, error) {
	p := r.plan()
	if len(p.islands) == 0 {
		return r.any.Template(ctx, id)
	}
	merged := make(map[string]registryapi.Template)
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, urls := range p.stores {
		wg.Go(func() {
			t, err := firstOf(ctx, r, urls, func(ctx context.Context, c *registryapi.Client) (registryapi.Template, error) {
				return c.Template(ctx, id)
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				merge(merged, t)
			} else {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	if t, ok := merged[id]; ok {
		return t, nil
	}
	for _, err := range errs { // absence is certain only when every store has said so
		if _, ok := registryapi.Answered(err); !ok {
			return registryapi.Template{}, err
		}
	}
	return registryapi.Template{}, errors.Join(errs...)
}

// firstOf asks registries that hold the same, one after another, until one answers.
func firstOf[T any](ctx context.Context, r *registries, urls []string, ask func(context.Context, *registryapi.Client) (T, error)) (T, error) {
	var none T
	var errs []error
	for _, url := range urls {
		limit := max(elsewhereLimit, registryTimeout/3/time.Duration(len(urls)))
		out, err := within(ctx, limit, func(ctx context.Context) (T, error) { return ask(ctx, registryapi.NewClient(url, r.direct)) })
		if answered, ok := registryapi.Answered(err); err == nil || ok && answered.Status < 500 {
			return out, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", url, err))
	}
	return none, errors.Join(errs...)
}

// judgeRegistries tells once when registries hold different templates, and again
// when that ends.
func (c *catalog) judgeRegistries() {
	apart := c.regs.plan().apart()
	c.mu.Lock()
	was := c.apart
	c.apart = apart
	c.mu.Unlock()
	switch {
	case apart != "" && apart != was:
		c.log.Error("registries hold different templates", zap.String("detail", apart))
	case apart == "" && was != "":
		c.log.Info("registries hold the same templates again")
	}
}

// problems are what a person should know of the registries.
func (c *catalog) problems() []string {
	var out []string
	c.mu.Lock()
	for _, text := range []string{c.untrusted, c.apart} {
		if text != "" {
			out = append(out, text)
		}
	}
	c.mu.Unlock()
	c.regs.mu.Lock()
	defer c.regs.mu.Unlock()
	for _, url := range slices.Sorted(maps.Keys(c.regs.known)) {
		err := c.regs.known[url].err
		answered, ok := registryapi.Answered(err)
		if err == nil || ok && answered.Status == http.StatusServiceUnavailable || url == c.regs.ownURL && c.untrusted != "" {
			continue
		}
		if why := notTrusted(err); why != "" {
			out = append(out, url+": "+why)
		} else {
			out = append(out, fmt.Sprintf("the registry %s does not answer: %v", url, err))
		}
	}
	return out
}
