package localcloud

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Down ends a cloud that another program started with KeepRunning: the node
// leaves, its VMs go, then every recorded server ends. Data stays on disk. said is
// given what has been done.
func Down(ctx context.Context, cfg Config, said func(what string)) error {
	c := &Cloud{cfg: cfg}
	var errs []error
	if _, err := os.Stat(filepath.Join(cfg.Dir, "node", "joined")); err == nil {
		errs = append(errs, c.Disjoin(ctx))
		said("the node has left the cloud")
	}
	if _, err := c.Anka(ctx, "delete", "-a", "--yes"); err != nil {
		errs = append(errs, err)
	}
	executables := []string{filepath.Join(cfg.Bin, "anka-controller")}
	_, err := StopRecorded(ctx, filepath.Join(cfg.Dir, "run"), executables, func(name string) { said(name + " has ended") })
	return errors.Join(append(errs, err)...)
}
