package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi"
)

// checkTimeout bounds the tests of one server.
const checkTimeout = 10 * time.Second

// serverCheck is what the tests of one controller found.
type serverCheck struct {
	url     string
	version string
	err     error // of the controller
	// notController: something answers there, but it is no controller.
	notController bool

	registry    string // the address that the controller names
	registryErr error
}

// checkServers tests every controller, and the registry that it names, side by
// side. The results are in the order of the URLs.
func checkServers(ctx context.Context, cfg agent.Config) ([]serverCheck, error) {
	plain, err := plainTransport(cfg)
	if err != nil {
		return nil, err
	}
	checks := make([]serverCheck, len(cfg.Controllers))
	var wg sync.WaitGroup
	for i, u := range cfg.Controllers {
		wg.Go(func() { checks[i] = checkServer(ctx, plain, u) })
	}
	wg.Wait()
	return checks, nil
}

// plain reaches one server at a time, without a pool.
type plain struct {
	base *http.Transport
	tls  tlsFor
	cfg  agent.Config
}

func plainTransport(cfg agent.Config) (plain, error) {
	conf, err := clientTLS(cfg.Credentials)
	if err != nil {
		return plain{}, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.DisableKeepAlives = nil, true
	t.DialContext = (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext
	t.TLSHandshakeTimeout = cfg.TLSHandshakeTimeout
	return plain{t, conf, cfg}, nil
}

// RoundTrip sends a request on a connection of its own.
func (p plain) RoundTrip(req *http.Request) (*http.Response, error) {
	t := p.base.Clone()
	if p.tls != nil {
		t.TLSClientConfig = p.tls(req.URL.Hostname())
	}
	return t.RoundTrip(req)
}

// at returns a client that signs for one server.
func (p plain) at(base string) *http.Client {
	return &http.Client{Timeout: min(checkTimeout, p.cfg.RequestTimeout), Transport: signed(base, p, p.cfg.Credentials)}
}

func checkServer(ctx context.Context, p plain, url string) serverCheck {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c := serverCheck{url: url}
	status, err := controllerapi.NewClient(url, p.at(url)).Status(ctx)
	if err != nil {
		c.err, c.notController = explainServer(err)
		return c
	}
	if status.Status != "Running" {
		c.err, c.notController = errors.New("answers, but is not a controller"), true
		return c
	}
	c.version, c.registry = status.Version, status.RegistryAddress
	if c.registry == "" {
		c.registryErr = errors.New("the controller names no registry")
		return c
	}
	if _, err := registryapi.NewClient(c.registry, p.at(c.registry)).Status(ctx); err != nil {
		c.registryErr, _ = explainServer(err)
	}
	return c
}

// explainServer says in plain words why a server did not do, and whether
// something else answered in its place.
func explainServer(err error) (error, bool) {
	var api *controllerapi.APIError
	var reg *registryapi.APIError
	switch {
	case errors.Is(err, controllerapi.ErrUnauthorized):
		return errors.New("wants credentials: pass --api-key-id and --api-key-file, or --cert and --cert-key"), false
	case errors.As(err, &api) && api.HTTPStatus >= 500:
		return fmt.Errorf("%d: %s", api.HTTPStatus, api.Message), false
	case errors.As(err, &api):
		return fmt.Errorf("%d %s: this is a web server, not a controller; is the port right?", api.HTTPStatus, http.StatusText(api.HTTPStatus)), true
	case errors.As(err, &reg):
		return reg, false
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused: nothing listens there"), false
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return errors.New("no route to the host (on macOS 15 and later also when the Local Network permission is missing)"), false
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", checkTimeout), false
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner // the URL is told already
	}
	if isProtocolError(err) {
		return errors.New("answers, but not with HTTP; is the port right?"), true
	}
	return err, false
}

// isProtocolError: bytes came that are no HTTP. net/http has no type for such
// errors, so that its words have to do. readLoopPeekFail is a server that speaks
// first, as SSH does, before the request was written.
func isProtocolError(err error) bool {
	text := err.Error()
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		strings.Contains(text, "malformed HTTP") || strings.Contains(text, "readLoopPeekFail")
}

// printChecks tells the tests' results, two lines a controller.
func printChecks(w io.Writer, checks []serverCheck) {
	for _, c := range checks {
		if c.err != nil {
			fmt.Fprintf(w, "controller %s  FAIL  %v\n", c.url, c.err)
			fmt.Fprintf(w, "  registry  not tested: no controller names it\n")
			continue
		}
		fmt.Fprintf(w, "controller %s  OK  version %s\n", c.url, c.version)
		switch {
		case c.registryErr != nil && c.registry == "":
			fmt.Fprintf(w, "  registry  FAIL  %v\n", c.registryErr)
		case c.registryErr != nil:
			fmt.Fprintf(w, "  registry %s  FAIL  %v\n", c.registry, c.registryErr)
		default:
			fmt.Fprintf(w, "  registry %s  OK\n", c.registry)
		}
	}
}

// judgeChecks decides whether to join.
func judgeChecks(checks []serverCheck) error {
	good, imposters := 0, 0
	for _, c := range checks {
		switch {
		case c.err == nil:
			good++
		case c.notController:
			imposters++
		}
	}
	switch {
	case good > 0:
		return nil
	case imposters > 0:
		return hintf(usagef("cannot join: what answers is not a controller"), "pass the controllers' addresses with their ports, e.g. http://10.0.1.4:8090")
	}
	return hintf(errors.New("cannot join: no controller answered"), "start a controller, or pass its address with the port, e.g. http://10.0.1.4:8090")
}
