package proxy

import (
	"context"
	"hash/fnv"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
)

// step is what a request to a registry is part of.
type step struct {
	repo  string // "" for none
	write bool   // part of a push, or of deciding what to push
	large bool   // may carry a blob
}

// registryStep reads a distribution API request:
// /v2/<name>/blobs/<digest>, /v2/<name>/blobs/uploads/[<id>], /v2/<name>/manifests/<ref>.
// Names hold slashes, and may have components such as "blobs", so the path is read
// from its end.
func registryStep(r *http.Request) step {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		return step{}
	}
	head, last := cutLast(strings.TrimSuffix(rest, "/"))
	for _, p := range []struct {
		path, end     string // the name ends where path begins with end
		upload, large bool
	}{
		{rest, "/blobs/uploads/", true, true}, {rest, "/blobs/uploads", true, true}, {head, "/blobs/uploads", true, true},
		{head, "/blobs", false, true}, {head, "/manifests", false, false},
	} {
		repo, ok := strings.CutSuffix(p.path, p.end)
		if !ok || repo == "" || last == "" {
			continue
		}
		reading := r.Method == http.MethodGet
		if !p.large {
			return step{repo: repo, write: !reading && r.Method != http.MethodHead}
		}
		// A HEAD of a blob asks whether it has to be pushed.
		return step{repo: repo, write: p.upload || !reading, large: true}
	}
	return step{}
}

// cutLast cuts off the last component of a path.
func cutLast(path string) (head, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

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
func (p *pushes) route(r *http.Request, s step, pool *balancer.Balancer) *http.Request {
	if !s.write || s.repo == "" {
		return r
	}
	now := time.Now()
	p.mu.Lock()
	h, known := p.homes[s.repo]
	if known && now.Sub(h.used) > pushMemory {
		delete(p.homes, s.repo)
		known = false
	}
	if known {
		h.used = now
		p.homes[s.repo] = h
	}
	p.mu.Unlock()
	if !known {
		h.endpoint = rendezvous(s.repo, pool.Endpoints())
	}
	if h.endpoint == "" {
		return r
	}
	ctx := context.WithValue(balancer.WithPrefer(r.Context(), h.endpoint), repoKey{}, s.repo)
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
