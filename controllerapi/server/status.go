package server

import (
	"net/http"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// status tells of this controller and the registry it is configured with. The
// licence is a constant: it must not depend on which controller is asked, nor on
// nodes being there.
func (s *Server) status(*http.Request) (any, error) {
	registry := "FAIL"
	if s.catalog.running() {
		registry = "Running"
	}
	return api.Status{
		Status: "Running", Version: s.cfg.Version, RegistryAddress: s.cfg.RegistryURL,
		RegistryStatus: registry, License: s.cfg.License, ServerID: s.cfg.ID,
	}, nil
}

func (s *Server) cluster(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	lists := s.lists()
	lists.Problems = s.catalog.problems()
	return lists, nil
}

// lists are the cloud's servers.
func (s *Server) lists() (out api.Cluster) {
	s.store.Read(func(v *cloud.View) {
		if v.Cluster != nil {
			out = v.Cluster.Cluster
		} else if v.Meta != nil {
			out = api.Cluster{CloudID: v.Meta.CloudID, Controllers: []api.Server{}, Registries: []api.Server{}}
		}
	})
	return out
}
