// Command nodesim puts load on a build cloud: it simulates nodes over the real
// agent wire and clients that start and terminate VMs, and prints what they saw.
//
//	go run ./test/nodesim --controllers http://a:8090,http://b:8090,http://c:8090 \
//	    --nodes 1000 --starts-per-second 50 --duration 1m
//
// The cloud's registry must hold the template that is named by --template, or be
// the one that `--registry ADDR` serves for the time of the run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/simnode"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags.
type options struct {
	controllers []string
	nodes       int
	joinRate    float64
	capacity    int
	heartbeat   time.Duration
	startTime   time.Duration
	template    string

	rate     float64
	clients  int
	burst    int
	lifetime time.Duration
	duration time.Duration

	etcd     string
	cloud    string
	usage    func() usage // nil without a cloud of the run's own
	registry string
	json     bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var controllers string
	fs := flag.NewFlagSet("nodesim", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&controllers, "controllers", "", "URLs of the controllers, separated by commas")
	fs.IntVar(&o.nodes, "nodes", 100, "nodes to simulate")
	fs.Float64Var(&o.joinRate, "joins-per-second", 150, "how many nodes begin in a second")
	fs.IntVar(&o.capacity, "capacity", 2, "VMs that a node takes")
	fs.DurationVar(&o.heartbeat, "heartbeat", 0, "time between two syncs of a node; 0 does as the cloud says")
	fs.DurationVar(&o.startTime, "start-time", 0, "how long a simulated VM takes to start")
	fs.StringVar(&o.template, "template", "nodesim", "id of the template that is started")
	fs.Float64Var(&o.rate, "starts-per-second", 0, "instances that clients create in a second; more than the cloud can take measures what it can take")
	fs.IntVar(&o.clients, "clients", 16, "clients that create at the same time")
	fs.IntVar(&o.burst, "burst", 0, "instances to create at once, in one request, before the steady load")
	fs.DurationVar(&o.lifetime, "lifetime", 5*time.Second, "how long an instance lives before it is terminated")
	fs.DurationVar(&o.duration, "duration", 30*time.Second, "length of the steady load")
	fs.StringVar(&o.etcd, "etcd", "", "client URL of an etcd member whose writes and size are measured")
	fs.StringVar(&o.registry, "registry", "", "address at which to serve a registry that knows the template")
	fs.StringVar(&o.cloud, "cloud", "", "folder with the executables anka-controller and etcd (make build etcd): start three of each for the time of the run")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	for u := range strings.SplitSeq(controllers, ",") {
		if u = strings.TrimSpace(u); u != "" {
			o.controllers = append(o.controllers, u)
		}
	}
	return o, errors.Join(o.validate(), extra(fs))
}

func extra(fs *flag.FlagSet) error {
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return nil
}

func (o options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(o.controllers) > 0 || o.cloud != "", "--controllers must name at least one URL")
	check(len(o.controllers) == 0 || o.cloud == "", "--cloud starts its own controllers: it cannot stand with --controllers")
	check(o.nodes >= 0, "--nodes %d must not be negative", o.nodes)
	check(o.joinRate > 0, "--joins-per-second %g must be above 0", o.joinRate)
	check(o.capacity >= 1, "--capacity %d must be at least 1", o.capacity)
	check(o.clients >= 1, "--clients %d must be at least 1", o.clients)
	check(o.burst >= 0, "--burst %d must not be negative", o.burst)
	check(o.rate >= 0, "--starts-per-second %g must not be negative", o.rate)
	check(o.duration >= 0 && o.lifetime >= 0 && o.startTime >= 0 && o.heartbeat >= 0, "a duration must not be negative")
	check(o.template != "", "--template must not be empty")
	return errors.Join(errs...)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "nodesim: error: %v\n", err)
		return 2
	}
	if o.registry != "" {
		stop, err := serveRegistry(o.registry, o.template)
		if err != nil {
			fmt.Fprintf(stderr, "nodesim: error: --registry: %v\n", err)
			return 1
		}
		defer stop()
	}
	if o.cloud != "" {
		c, err := startCloud(ctx, o.cloud, o.template)
		if err != nil {
			fmt.Fprintf(stderr, "nodesim: error: --cloud: %v\n", err)
			return 1
		}
		defer func() { _ = c.stop() }() // the processes are killed; what is left is in a temporary folder
		o.controllers, o.usage = c.ctrlURLs, c.usage
		if o.etcd == "" {
			o.etcd = c.etcdURLs[0]
		}
	}
	report, err := drive(ctx, o, func(format string, args ...any) { fmt.Fprintf(stderr, "nodesim: "+format+"\n", args...) })
	if err != nil {
		fmt.Fprintf(stderr, "nodesim: error: %v\n", err)
		return 1
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		_ = enc.Encode(report) // stdout is gone: nobody reads it
	} else {
		report.print(stdout)
	}
	if len(report.Violations) > 0 {
		return 1
	}
	return 0
}

func serveRegistry(addr, template string) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: simnode.Registry(template), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with Close
	}()
	return func() { _ = srv.Close(); <-done }, nil
}

func nodeID(i int) controllerapi.NodeID {
	return controllerapi.NodeID(fmt.Sprintf("nodesim-%05d", i))
}
