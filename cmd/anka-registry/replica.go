package main

import (
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/replication"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

// take makes srv what r says. The replicator returned, if any, is to be run
// beside srv.
func (r role) take(srv *server.Server, store content.Store, cfg server.Config, log *zap.Logger) (*replication.Replicator, error) {
	if r.writeOnly {
		srv.Use(replication.WriteOnly)
	}
	if len(r.replica.Sources) == 0 {
		return nil, nil
	}
	r.replica.Metrics = cfg.Metrics
	rep, err := replication.New(r.replica, store, log.Named("replication"))
	if err != nil {
		return nil, err
	}
	if r.through {
		srv.Use(rep.ReadThrough)
	}
	srv.Use(replication.ReadOnly(r.replica.Sources))
	srv.TellReplication(rep.State)
	return rep, nil
}
