package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// etcdRunCommand runs an etcd member and no controller: for those who keep them
// in containers of their own.
func etcdRunCommand(env func(string) (string, bool), opts *output) *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run an etcd member alone; controllers elsewhere use it", HideHelpCommand: true, OnUsageError: onUsageError,
		Description: "Finds or forms its cluster as --standalone does. Its client address answers /health and /readyz.\n\n" +
			"Example: anka-controller etcd run --cluster 10.0.1.4,10.0.1.5,10.0.1.6",
		Flags: settings.Flags(only("ANKA_DATA_DIR", "ANKA_CLUSTER", "ANKA_CLUSTER_SELF", "ANKA_ETCD_LISTEN_CLIENT", "ANKA_ETCD_LISTEN_PEER",
			"ANKA_ETCD_TLS_CA", "ANKA_ETCD_TLS_CERT", "ANKA_ETCD_TLS_KEY", "ANKA_ETCD_QUOTA_MB", "ANKA_AUTO_COMPACTION_MODE",
			"ANKA_AUTO_COMPACTION_RETENTION", "ANKA_DEFRAG_DB_INTERVAL", "ANKA_V", "ANKA_LOG_DIR", "ANKA_LOG_MAX_DAYS", "ANKA_LOG_MAX_MB",
			"ANKA_ERROR_LOG_MAX_DAYS", "ANKA_ERROR_LOG_MAX_MB", "ANKA_ENABLE_METRICS", "ANKA_METRICS_PORT", "ANKA_METRICS_PATH")),
		Action: func(cc *cli.Context) error {
			if cc.Args().Present() {
				return usageError{fmt.Errorf("unexpected argument %q", cc.Args().First())}
			}
			c, errs := loadConfig(cc, env)
			if c.Cluster == "" { // a cluster of one, which others reach by that name
				c.Cluster = c.ClusterSelf
			}
			c.complete()
			mc, err := c.memberConfig()
			if err := errors.Join(append(errs, err)...); err != nil {
				return usageError{err}
			}
			unlock, err := c.lockDataDir()
			if err != nil {
				return err
			}
			defer unlock()
			log := c.newLogger(opts.stderr)
			defer func() { _ = log.Sync() }()
			m, err := etcdmember.New(mc, log)
			if err != nil {
				return usageError{err}
			}
			log.Info("etcd member begins", zap.String("data_dir", mc.DataDir), zap.String("cluster", c.Cluster))
			if !c.EnableMetrics {
				return m.Run(cc.Context)
			}
			l, err := c.metricsListener(prometheus.Gatherers{}, log)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancelCause(cc.Context)
			defer cancel(nil)
			var g errgroup.Group
			g.Go(func() error {
				err := l.serve()
				cancel(err)
				return err
			})
			err = m.Run(ctx)
			l.shutdown(context.WithoutCancel(ctx))
			return errors.Join(err, g.Wait())
		},
	}
}
