package proxy

import (
	"context"
	"hash/fnv"
	"net/http"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
)

// pushes remembers which registry each repository's push goes to.
type pushes struct {
	mu    sync.Mutex
	homes map[string]home
}

type home struct {
	endpoint string
	used     time.Time
}

// pushMemory is how long after its last step a push keeps its registry.
const pushMemory = 15 * time.Minute

// route asks for the registry that the repository's push is on. A push that has
// none yet goes to one that every proxy works out alike from the name, so that
// the question what is there and the upload meet the same registry.
func (p *pushes) route(r *http.Request, repo string, pool *balancer.Balancer) *http.Request {
	now := time.Now()
	p.mu.Lock()
	h, known := p.homes[repo]
	if known && now.Sub(h.used) > pushMemory {
		delete(p.homes, repo)
		known = false
	}
	if known {
		h.used = now
		p.homes[repo] = h
	}
	p.mu.Unlock()
	if !known {
		h.endpoint = rendezvous(repo, pool.Endpoints())
	}
	if h.endpoint == "" {
		return r
	}
	ctx := context.WithValue(balancer.WithPrefer(r.Context(), h.endpoint), repoKey{}, repo)
	return r.WithContext(ctx)
}

type repoKey struct{}

// learn notes which registry began an upload.
func (p *pushes) learn(resp *http.Response) {
	if resp.StatusCode != http.StatusAccepted || resp.Request == nil {
		return
	}
	repo, _ := resp.Request.Context().Value(repoKey{}).(string)
	served := balancer.ServedBy(resp)
	if repo == "" || served == "" {
		return
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.homes == nil {
		p.homes = make(map[string]home)
	}
	for name, h := range p.homes {
		if now.Sub(h.used) > pushMemory {
			delete(p.homes, name)
		}
	}
	p.homes[repo] = home{endpoint: served, used: now}
}

// rendezvous picks the endpoint with the highest hash for a name: the choice
// moves for few names when the list changes.
func rendezvous(name string, endpoints []string) string {
	best, bestSum := "", uint64(0)
	for _, ep := range endpoints {
		h := fnv.New64a()
		h.Write([]byte(name))
		h.Write([]byte{0})
		h.Write([]byte(ep))
		if sum := h.Sum64(); best == "" || sum > bestSum {
			best, bestSum = ep, sum
		}
	}
	return best
}
