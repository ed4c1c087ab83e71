package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/launchd"
)

// reportService is the name of the service that a report installs and removes.
const reportService = "ankacluster-report"

// reportServiceEnds is how long its program works on its end, so that what launchd
// answers meanwhile can be recorded.
const reportServiceEnds = 2 * time.Second

func underLaunchd() bool { return runtime.GOOS == "darwin" || standInLaunchctl != "" }

// reportServiceCommand is the program of that service.
func reportServiceCommand() *cli.Command {
	return &cli.Command{
		Name: "report-service", Usage: "wait until it is told to end (mac-report starts it)", Hidden: true,
		Action: func(c *cli.Context) error {
			return launchd.Run(c.Context, reportService, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(reportServiceEnds)
				return ctx.Err()
			})
		},
	}
}

// serviceReport follows a service of launchd's through what happens to one.
type serviceReport struct {
	*macReporter
	svc   *launchd.Service
	notes strings.Builder // how each step of ours ended
	errs  error
}

// service records what launchd says of a service, and whether this program brings it
// back, after each thing that can happen to it.
func (m *macReporter) service(ctx context.Context) error {
	self, err := selfpath.Program()
	if err != nil {
		return err
	}
	svc, err := launchd.New(launchd.Config{
		Name: reportService, Description: "a report on launchd", Executable: self, Arguments: []string{"report-service"},
		LogDir: standInDaemons, Launchd: launchd.Launchd{Launchctl: standInLaunchctl, Daemons: standInDaemons},
	})
	if err != nil {
		return err
	}
	r := &serviceReport{macReporter: m, svc: svc}
	r.run(ctx)
	r.note("uninstall", svc.Uninstall())
	r.print(ctx, "service-uninstalled")
	return errors.Join(r.errs, m.Write("service-steps.txt", []byte(r.notes.String())))
}

func (r *serviceReport) run(ctx context.Context) {
	target := "system/" + reportService
	r.note("install", r.svc.Install())
	r.note("start", r.svc.Restart())
	r.print(ctx, "service-running")
	r.launchctl(ctx, "service-load-again", "bootstrap", "system", r.svc.DefinitionPath())

	r.end(ctx, syscall.SIGTERM)
	r.print(ctx, "service-ended")
	r.launchctl(ctx, "service-load-ended", "bootstrap", "system", r.svc.DefinitionPath())
	r.note("start after kill -TERM", r.svc.Restart())
	r.print(ctx, "service-after-term")

	for i := range 5 {
		r.end(ctx, syscall.SIGKILL)
		r.print(ctx, fmt.Sprintf("service-killed-%d", i+1))
	}
	r.note("start after kill -9, five times", r.svc.Restart())
	r.print(ctx, "service-after-kill")

	r.launchctl(ctx, "service-disable", "disable", target)
	r.launchctl(ctx, "service-disabled", "print-disabled", "system")
	r.print(ctx, "service-running-disabled")
	r.note("stop", r.svc.Stop())
	r.launchctl(ctx, "service-load-disabled", "bootstrap", "system", r.svc.DefinitionPath())
	r.note("start after disable", r.svc.Restart())
	r.print(ctx, "service-after-disable")

	// What launchd answers while the process works on its end, and after it.
	r.launchctl(ctx, "service-bootout", "bootout", target)
	r.print(ctx, "service-leaving")
	r.launchctl(ctx, "service-bootout-again", "bootout", target)
	r.launchctl(ctx, "service-load-leaving", "bootstrap", "system", r.svc.DefinitionPath())
	r.launchctl(ctx, "service-kick-leaving", "kickstart", "-k", target)
	r.note("start after bootout", r.svc.Restart())
	r.print(ctx, "service-after-bootout")
	r.note("stop", r.svc.Stop())
	r.launchctl(ctx, "service-bootout-gone", "bootout", target)
}

// end sends a signal to the process and waits until launchd has seen its end.
func (r *serviceReport) end(ctx context.Context, s syscall.Signal) {
	deadline := time.Now().Add(time.Minute)
	await := func(ok func(launchd.Status) bool) (launchd.Status, error) {
		for {
			st, err := r.svc.Status()
			if err != nil || ok(st) {
				return st, err
			}
			if time.Now().After(deadline) {
				return st, fmt.Errorf("after a minute it is %s, process %d", st.State, st.PID)
			}
			select {
			case <-ctx.Done():
				return st, ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	st, err := await(func(st launchd.Status) bool { return st.PID != 0 })
	if err == nil {
		_ = syscall.Kill(st.PID, s) // it may have ended
		_, err = await(func(now launchd.Status) bool { return now.PID != st.PID })
	}
	r.note(s.String(), err)
}

func (r *serviceReport) print(ctx context.Context, name string) {
	r.launchctl(ctx, name, "print", "system/"+reportService)
}

func (r *serviceReport) launchctl(ctx context.Context, name string, args ...string) {
	_, err := r.Record(ctx, name, append([]string{cmp.Or(standInLaunchctl, "/bin/launchctl")}, args...)...)
	r.errs = errors.Join(r.errs, err)
}

// note writes down how a step ended. A failure is what the report is for.
func (r *serviceReport) note(what string, err error) {
	st, statusErr := r.svc.Status()
	fmt.Fprintf(&r.notes, "%s: %v; then %s, starts at boot %t, %v\n", what, err, st.State, st.Enabled, statusErr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "     %s: %v\n", what, err)
	}
}
