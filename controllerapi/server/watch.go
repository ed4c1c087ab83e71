package server

import (
	"fmt"
	"iter"
	"net/http"
	"slices"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/watch"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// changesKept are what a stream that broke can go on with: of 500 changes a second,
// those of 8 s and more. Twice as many take some 3 MB more with 5,000 nodes.
const changesKept = 4096

// watch streams changes until the caller leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	from := watch.Source{Log: s.changes, Snapshot: s.snapshot, Needs: kindNeeds, Guard: s.api.Guard, Draining: s.draining}
	req, err := from.Read(r)
	if err == nil {
		err = s.known(r, req.Since)
	}
	if err != nil {
		s.api.WriteError(w, r, err)
		return
	}
	watch.Serve(w, r, req, from)
}

// known returns once this controller knows all that the caller may have been told at
// another one.
func (s *Server) known(r *http.Request, since int64) error {
	if err := s.fresh(r); err != nil {
		return err
	}
	if now := s.store.Revision(); since > now {
		return &wire.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("revision %d is not one of this cloud, which is at %d: ask without since", since, now)}
	}
	return nil
}

// snapshot returns everything there is of the kinds, and the revision of it.
func (s *Server) snapshot(of []api.Kind) (rev int64, all iter.Seq[watch.Change]) {
	var found []watch.Change
	s.store.Read(func(v *cloud.View) {
		rev = v.Rev
		for _, k := range of {
			found = append(found, kinds[k].all(s, v)...)
		}
	})
	return rev, slices.Values(found)
}
