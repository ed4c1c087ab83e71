// Command demo shows the cloud to a newcomer on one machine, with real
// processes on loopback.
//
//	go run ./test/demo demo     tell the failover story, step by step, and clean up
//	go run ./test/demo up       start the cloud, push a template, leave it running
//	go run ./test/demo down     end what up started
//
// `make demo`, `make up` and `make down` build the executables first.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	verbs := map[string]func(context.Context, string) error{"demo": demo, "up": up, "down": down}
	if len(args) != 1 || verbs[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: demo demo|up|down")
		return 2
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	err = verbs[args[0]](ctx, bin)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, args[0]+": interrupted; everything that was started has been ended")
	default:
		fmt.Fprintf(os.Stderr, "%s: error: %v\n", args[0], err)
	}
	return 1
}
