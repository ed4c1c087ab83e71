package server

import (
	"net/http"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/why"
)

// why tells why an instance waits.
func (s *Server) why(r *http.Request) (any, error) {
	id := api.InstanceID(r.URL.Query().Get("id"))
	if id == "" {
		return nil, required("id")
	}
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	return s.asker().Instance(id)
}

// whyNot tells whether a start request would find a node, and starts nothing.
func (s *Server) whyNot(r *http.Request) (any, error) {
	_, list, err := s.asked(r)
	if err == nil {
		err = s.fresh(r)
	}
	if err != nil {
		return nil, err
	}
	return s.asker().Request(list[0]), nil
}

func (s *Server) asker() why.Asker {
	a := why.Asker{Cloud: s.store, Config: s.cfg.Schedule, Heard: s.store.Renewed}
	if s.alarmed() {
		a.Stuck = s.notReady()
	}
	return a
}
