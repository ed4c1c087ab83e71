package server

import (
	"net/http"

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

func (s *Server) status(r *http.Request) (any, error) {
	st := registryapi.Status{Status: "Running", Version: buildinfo.Version, Store: s.store.ID()}
	if s.replication != nil {
		r := s.replication()
		st.Replication = &r
	}
	if s.shared != nil {
		c := s.shared.State(r.Context())
		st.Cluster = &c
	}
	return st, nil
}

// cluster answers the same alone; a registry of one directory has no hosts.
func (s *Server) cluster(r *http.Request) (any, error) {
	if s.shared == nil {
		return registryapi.Cluster{Hosts: []registryapi.ClusterHost{}, Copies: 1}, nil
	}
	return s.shared.State(r.Context()), nil
}

func (s *Server) copies(r *http.Request) (any, error) {
	if s.shared == nil {
		return []registryapi.TagCopies{}, nil
	}
	list, err := s.shared.Copies(r.Context())
	if err != nil {
		return nil, unreadable(err)
	}
	return list, nil
}

// replicationState answers the same alone; one that copies from nowhere has no
// sources.
func (s *Server) replicationState(*http.Request) (any, error) {
	if s.replication == nil {
		return registryapi.Replication{Sources: []registryapi.ReplicationSource{}}, nil
	}
	return s.replication(), nil
}

func (s *Server) disk(*http.Request) (any, error) {
	free, total, err := s.store.Disk()
	if err != nil {
		return nil, wire.Unavailable("the storage does not tell its space", err)
	}
	return registryapi.Disk{Free: free, Total: total}, nil
}
