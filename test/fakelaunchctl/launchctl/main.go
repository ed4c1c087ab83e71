// Command launchctl asks a stand-in of launchd, which a test or `launchctl serve`
// runs, in the words of the real command.
//
//	FAKELAUNCHD_DIR=/tmp/mac1 launchctl serve &
//	FAKELAUNCHD_DIR=/tmp/mac1 launchctl bootstrap system /tmp/mac1/job.plist
//	FAKELAUNCHD_DIR=/tmp/mac1 launchctl print system/job
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ankacluster/ankacluster/test/fakelaunchctl"
)

func main() {
	dir := os.Getenv("FAKELAUNCHD_DIR")
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	r, err := fakelaunchctl.Ask(dir, os.Args[1:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "no launchd:", err)
		os.Exit(1)
	}
	fmt.Print(r.Stdout)
	fmt.Fprint(os.Stderr, r.Stderr)
	os.Exit(r.Code)
}

func serve(dir string) error {
	l, err := fakelaunchctl.New(fakelaunchctl.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer l.Close()
	stop, err := l.Serve()
	if err != nil {
		return err
	}
	defer stop()
	ctx, done := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer done()
	<-ctx.Done()
	return nil
}
