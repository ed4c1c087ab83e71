package main

import (
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/servicecmd"
)

func serviceCommand(env func(string) (string, bool), out *output) *cli.Command {
	return servicecmd.Command(servicecmd.Program{
		Name: program, Kind: "controller", Example: "sudo anka-controller service install --standalone",
		Table: (&config{}).table(), Stdout: out.stdout,
		Usage: func(err error) error { return usageError{err} },
		Plan: func(cc *cli.Context) (servicecmd.Plan, error) {
			c, err := newConfig(cc, env)
			if err != nil {
				return servicecmd.Plan{}, usageError{err}
			}
			return c.servicePlan(), nil
		},
	})
}

func (c *config) servicePlan() servicecmd.Plan {
	plan := servicecmd.Plan{
		Given: c.given, Dir: c.DataDir, URL: c.localURL(), Grace: c.GracefulShutdown,
		Ready: "ready; on each Mac: sudo ankacluster join " + c.AdvertiseURL,
	}
	plan.Writable = []string{c.DataDir}
	for _, dir := range []string{c.RegistryBasePath, c.LogDir} {
		if dir != "" {
			plan.Writable = append(plan.Writable, dir)
		}
	}
	if c.Cluster != "" { // a host of a new cluster waits for the others
		plan.Waits = fmt.Sprintf("the service runs and is not ready yet: it waits for the other hosts of --cluster %s; see anka-controller etcd status", c.Cluster)
	}
	if runtime.GOOS == "darwin" {
		plan.More = c.withLogDir(nil)
	}
	return plan
}

// withLogDir adds a directory for logs where none is given: launchd puts what a
// service writes to stderr into a file without a bound.
func (c *config) withLogDir(args []string) []string {
	if c.LogDir != "" {
		return args
	}
	return append(args, "--log-dir="+filepath.Join(c.DataDir, "logs"))
}
