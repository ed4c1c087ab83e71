package node

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Paths of the status socket by which a person takes a server out of use, and back.
const (
	PathDrain   = "/endpoints/drain"
	PathUndrain = "/endpoints/undrain"
)

// CodeLastUsable refuses a drain that would leave a pool without a usable endpoint.
const CodeLastUsable wire.Code = "last_usable"

// DrainRequest is the body of a call to PathDrain or PathUndrain.
type DrainRequest struct {
	URL string `json:"url"`
	// Force drains also the last usable endpoint of a pool.
	Force bool `json:"force,omitempty"`
}

// DrainAnswer is how the server is used from then on.
type DrainAnswer struct {
	URL     string `json:"url"` // in its one spelling
	Drained bool   `json:"drained"`
	// OutlastsRestart: what is drained now stays so in the next process.
	OutlastsRestart bool `json:"outlasts_restart"`
	// Pools are those that the server is a member of.
	Pools map[string]balancer.Status `json:"pools"`
}

// Drains is a person's word on which servers of some pools are not to be used. A server
// is drained in all pools that it is a member of, or in none.
type Drains struct {
	mu    sync.Mutex // one change at a time
	pools map[string]*balancer.Balancer
	keep  func(map[string]time.Time) error
}

// NewDrains returns the word on these pools, by their names. keep stores what is
// drained, and since when, for the next process; nil is for pools whose drains end with
// their process.
func NewDrains(pools map[string]*balancer.Balancer, keep func(map[string]time.Time) error) *Drains {
	return &Drains{pools: pools, keep: keep}
}

// Routes are the calls of the status socket.
func (d *Drains) Routes() []wire.Route {
	api := &wire.API{Log: zap.NewNop()}
	call := func(change func(DrainRequest) (DrainAnswer, error)) http.Handler {
		return api.Handle(func(r *http.Request) (any, error) {
			req, err := wire.Decode[DrainRequest](r)
			if err != nil {
				return nil, err
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			return change(req)
		})
	}
	return []wire.Route{
		{Pattern: "POST " + PathDrain, Permission: access.Owner, Handler: call(d.drain)},
		{Pattern: "POST " + PathUndrain, Permission: access.Owner, Handler: call(d.undrain)},
	}
}

func (d *Drains) drain(req DrainRequest) (DrainAnswer, error) {
	before := d.drained()
	err := d.each(req.URL, func(b *balancer.Balancer) error { return b.Drain(req.URL, req.Force) })
	if err != nil {
		if u, bad := balancer.ParseEndpoint(req.URL); bad == nil && before[u.String()].IsZero() {
			_ = d.each(req.URL, func(b *balancer.Balancer) error { return b.Undrain(req.URL) }) // of those before the one that refused
		}
		return DrainAnswer{}, err
	}
	return d.answer(req.URL, true, "it is drained, and would be used again after a restart")
}

func (d *Drains) undrain(req DrainRequest) (DrainAnswer, error) {
	if err := d.each(req.URL, func(b *balancer.Balancer) error { return b.Undrain(req.URL) }); err != nil {
		return DrainAnswer{}, err
	}
	return d.answer(req.URL, false, "it is used, and would be drained again after a restart")
}

// each changes the pools that the server is a member of.
func (d *Drains) each(url string, change func(*balancer.Balancer) error) error {
	if _, err := balancer.ParseEndpoint(url); err != nil {
		return &wire.Error{Status: http.StatusBadRequest, Code: wire.CodeBadRequest, Message: err.Error()}
	}
	members := 0
	for _, name := range slices.Sorted(maps.Keys(d.pools)) {
		switch err := change(d.pools[name]); {
		case errors.Is(err, balancer.ErrNoMember):
			continue
		case errors.Is(err, balancer.ErrLastUsable):
			return &wire.Error{Status: http.StatusConflict, Code: CodeLastUsable, Message: err.Error()}
		case err != nil:
			return err
		}
		members++
	}
	if members == 0 {
		return &wire.Error{Status: http.StatusNotFound, Code: wire.CodeNotFound, Message: fmt.Sprintf("%s is none of the servers here: %s", url, strings.Join(d.known(), ", "))}
	}
	return nil
}

// known are the servers of all pools.
func (d *Drains) known() []string {
	var all []string
	for _, b := range d.pools {
		for _, e := range b.Status().Endpoints {
			all = append(all, e.URL)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// drained is what is drained in any pool, since the first of them.
func (d *Drains) drained() map[string]time.Time {
	all := make(map[string]time.Time)
	for _, b := range d.pools {
		for url, since := range b.Drained() {
			if first, ok := all[url]; !ok || since.Before(first) {
				all[url] = since
			}
		}
	}
	return all
}

// answer stores what is drained now; unkept is what it means when that fails.
func (d *Drains) answer(url string, drained bool, unkept string) (DrainAnswer, error) {
	if d.keep != nil {
		if err := d.keep(d.drained()); err != nil {
			return DrainAnswer{}, &wire.Error{Status: http.StatusInternalServerError, Message: fmt.Sprintf("%s: %v", unkept, err)}
		}
	}
	u, err := balancer.ParseEndpoint(url)
	if err != nil {
		return DrainAnswer{}, err
	}
	a := DrainAnswer{URL: u.String(), Drained: drained, OutlastsRestart: d.keep != nil, Pools: make(map[string]balancer.Status)}
	for name, b := range d.pools {
		s := b.Status()
		if slices.ContainsFunc(s.Endpoints, func(e balancer.EndpointStatus) bool { return e.URL == a.URL }) {
			a.Pools[name] = s
		}
	}
	return a, nil
}
