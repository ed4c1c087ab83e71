package main

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/registryapi/replication"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

const catReplica = "Replication"

// replicaFlags are the settings of a registry among others.
func replicaFlags() []cli.Flag {
	return []cli.Flag{
		text(catReplica, "replica-of", "", "copy everything from these registries, `URL[,URL…]`, and take no pushes"),
		text(catReplica, "replica-bandwidth", "0", "copy at no more than `SIZE` a second, for example 50MB; 0 is no limit"),
		number(catReplica, "replica-parallel", 3, "copy `N` large images at a time"),
		yes(catReplica, "replica-read-through", false, "serve what is not copied yet straight from its source, and keep it"),
		yes(catReplica, "skip-tls-verification", false, "accept any certificate of the registries that are copied from"),
		yes(catReplica, "write-only", false, "take pushes and serve content to replicas alone"),
	}
}

// role is what a registry is among others.
type role struct {
	replica   replication.Config
	through   bool
	writeOnly bool
}

func roleOf(c *cli.Context) (role, error) {
	r := role{
		replica: replication.Config{Sources: splitList(c.String("replica-of")), Parallel: c.Int("replica-parallel")},
		through: c.Bool("replica-read-through"), writeOnly: c.Bool("write-only"),
	}
	if c.Bool("skip-tls-verification") {
		r.replica.TLS = &tls.Config{InsecureSkipVerify: true} // asked for by name
	}
	var errs []error
	var err error
	if r.replica.Bandwidth, err = parseBytes(c.String("replica-bandwidth")); err != nil {
		errs = append(errs, fmt.Errorf("ANKA_REPLICA_BANDWIDTH (--replica-bandwidth): %w", err))
	}
	if len(r.replica.Sources) == 0 {
		for _, name := range []string{"replica-bandwidth", "replica-read-through"} {
			if c.IsSet(name) && c.String(name) != "0" && c.String(name) != "false" {
				errs = append(errs, fmt.Errorf("%s (--%s) needs ANKA_REPLICA_OF (--replica-of)", envOf(name), name))
			}
		}
		return r, errors.Join(errs...)
	}
	if r.writeOnly {
		errs = append(errs, errors.New("ANKA_WRITE_ONLY (--write-only) and ANKA_REPLICA_OF (--replica-of) exclude each other: nobody could be served"))
	}
	if err := r.replica.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("ANKA_REPLICA_OF (--replica-of): %w", err))
	}
	return r, errors.Join(errs...)
}

// take makes srv what r says. The replicator returned, if any, is to be run
// beside srv.
func (r role) take(srv *server.Server, cfg server.Config, log *zap.Logger) (*replication.Replicator, error) {
	if r.writeOnly {
		srv.Use(replication.WriteOnly)
	}
	if len(r.replica.Sources) == 0 {
		return nil, nil
	}
	r.replica.Metrics = cfg.Metrics
	rep, err := replication.New(r.replica, srv.Store(), log.Named("replication"))
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
