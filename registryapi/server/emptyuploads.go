package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
)

// An upload that was begun and has no content costs its client an empty request, and
// the store four files. So they have a number and a short life.
const (
	mostEmpty          = 10_000
	mostEmptyOfAddress = 1000
	emptyLife          = 30 * time.Minute
)

// emptyUploads are those that this server began and got nothing for.
type emptyUploads struct {
	mu   sync.Mutex
	of   map[string]int         // guarded by mu; how many an address has
	byID map[string]emptyUpload // guarded by mu
}

type emptyUpload struct {
	repo, from string
	begun      time.Time
}

var errTooManyUploads = oci.NewError(http.StatusTooManyRequests, oci.CodeTooManyRequests, "too many uploads were begun and got no content: send some, or cancel them")

// check returns an error for an address that has too many.
func (e *emptyUploads) check(r *http.Request) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.byID) >= mostEmpty || e.of[addressOf(r)] >= mostEmptyOfAddress {
		return errTooManyUploads
	}
	return nil
}

func (e *emptyUploads) begin(r *http.Request, repo, id string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byID == nil {
		e.of, e.byID = make(map[string]int), make(map[string]emptyUpload)
	}
	up := emptyUpload{repo, addressOf(r), now}
	e.byID[id] = up
	e.of[up.from]++
}

// end: there is a request for the upload, or it is to be forgotten.
func (e *emptyUploads) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	up, ok := e.byID[id]
	if !ok {
		return
	}
	delete(e.byID, id)
	if e.of[up.from]--; e.of[up.from] == 0 {
		delete(e.of, up.from)
	}
}

// old returns those that were begun before.
func (e *emptyUploads) old(before time.Time) map[string]emptyUpload {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := make(map[string]emptyUpload)
	for id, up := range e.byID {
		if up.begun.Before(before) {
			old[id] = up
		}
	}
	return old
}

// dropEmpty cancels uploads that got no content for long.
func (s *Server) dropEmpty(ctx context.Context, now time.Time) {
	for id, up := range s.empty.old(now.Add(-emptyLife)) {
		s.empty.end(id)
		u, err := s.store.OpenUpload(ctx, up.repo, id)
		if err != nil {
			continue // another server has ended it
		}
		if u.Offset() == 0 {
			err = u.Cancel()
		}
		if err != nil {
			s.log.Warn("an empty upload could not be removed", zap.String("upload", id), zap.Error(err))
		}
		_ = u.Close()
	}
}

// addressOf is the client as this server sees it.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
