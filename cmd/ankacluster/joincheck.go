package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/agent/doctor"
	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/termstyle"
	"github.com/ankacluster/ankacluster/internal/wire"
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
	hint          string // what to do about err, "" for nothing special
	serverID      string // "" where the controller does not tell

	registry    string // the address that the controller announces
	registryErr error
	// registryLost: the controller itself cannot use its registry.
	registryLost bool
}

// checkServers tests every controller, and the registry that it names, side by
// side. The results are in the order of the URLs.
func checkServers(ctx context.Context, cfg state.Config) ([]serverCheck, error) {
	plain, err := node.NewPlain(cfg, checkTimeout)
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

func checkServer(ctx context.Context, p node.Plain, url string) serverCheck {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c := serverCheck{url: url}
	status, err := controllerapi.NewClient(url, p.At(url)).Status(ctx)
	if err != nil {
		c.hint, c.notController, c.err = explainServer(ctx, p, url, err)
		return c
	}
	if status.Status != "Running" {
		c.err, c.notController = errors.New("answers, but is not a controller"), true
		return c
	}
	c.version, c.registry, c.serverID = status.Version, status.RegistryAddress, status.ServerID
	c.registryLost = status.RegistryStatus == "FAIL"
	if c.registry == "" {
		c.registryErr = errors.New("the controller names no registry")
		return c
	}
	if _, err := registryapi.NewClient(c.registry, p.At(c.registry)).Status(ctx); err != nil {
		_, _, c.registryErr = explainServer(ctx, p, c.registry, err)
	}
	return c
}

// otherRegistry is the address of a registry that answers, of those that the
// controllers announce besides the ones that were tested; "" for none.
func otherRegistry(ctx context.Context, cfg state.Config, checks []serverCheck) string {
	p, err := node.NewPlain(cfg, checkTimeout)
	if err != nil {
		return ""
	}
	tested := make(map[string]bool)
	for _, c := range checks {
		tested[c.registry] = true
	}
	for _, c := range checks {
		if c.err != nil {
			continue
		}
		cluster, err := controllerapi.NewClient(c.url, p.At(c.url)).Cluster(ctx)
		if err != nil {
			continue
		}
		for _, r := range cluster.Registries {
			if tested[r.URL] {
				continue
			}
			tested[r.URL] = true
			if _, err := registryapi.NewClient(r.URL, p.At(r.URL)).Status(ctx); err == nil {
				return r.URL
			}
		}
	}
	return ""
}

// explainServer says in plain words why a server did not do, what to do about it
// where that is known, and whether something else answered in its place.
func explainServer(ctx context.Context, p node.Plain, base string, err error) (hint string, imposter bool, reason error) {
	reason, imposter = explainError(err)
	if errors.Is(err, controllerapi.ErrUnauthorized) {
		return "pass --api-key-id and --api-key-file, or --cert and --cert-key", false, reason
	}
	u, parseErr := url.Parse(base)
	if parseErr != nil {
		return "", imposter, reason
	}
	if what, advice, ok := doctor.TLSReason(err, u); ok {
		return advice, false, errors.New(what)
	}
	if imposter {
		switch what := answers(ctx, p, u); what {
		case "https":
			return "pass https://" + u.Host + " in place of http://" + u.Host, true, errors.New("speaks HTTPS")
		case "registry":
			return "pass the controllers, which usually listen on port 8090: registries are learned of from them", true, errors.New("this is a registry, not a controller")
		}
	}
	return "", imposter, reason
}

// answers tells what else than a controller is at an address: "https" for a TLS
// server that was spoken to in plain text, "registry" for one of ours.
func answers(ctx context.Context, p node.Plain, u *url.URL) string {
	if _, err := registryapi.NewClient(u.String(), p.At(u.String())).Status(ctx); err == nil {
		return "registry"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil || u.Scheme != "http" {
		return ""
	}
	resp, err := p.At(u.String()).Do(req)
	if err != nil {
		return ""
	}
	// Go's servers and nginx say so in the text of a 400.
	if text := wire.Beginning(resp); resp.StatusCode == http.StatusBadRequest && strings.Contains(text, "HTTPS") {
		return "https"
	}
	return ""
}

func explainError(err error) (error, bool) {
	api, isController := controllerapi.Answered(err)
	reg, isRegistry := registryapi.Answered(err)
	untrusted, unknown, _ := clienttls.Reason(err)
	if unknown {
		untrusted += "; pass that authority's certificate with --cacert FILE"
	}
	switch {
	case errors.Is(err, controllerapi.ErrUnauthorized):
		return errors.New("wants credentials"), false
	case isController && api.Status >= 500:
		return fmt.Errorf("%d: %s", api.Status, api.Message), false
	case isController:
		return fmt.Errorf("%d %s: this is a web server, not a controller; is the port right?", api.Status, http.StatusText(api.Status)), true
	case isRegistry:
		return reg, false
	case untrusted != "":
		return errors.New(untrusted), false
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

// printChecks tells the tests' results, two lines a controller; the reason of a
// failure has its own.
func printChecks(w io.Writer, checks []serverCheck) {
	l := termstyle.Of(w)
	line := func(level termstyle.Level, indent, what, result string) {
		fmt.Fprintf(w, "%s%s%s  %s\n", l.Sign(level), indent, what, l.Paint(level, result))
	}
	why := func(err error) {
		for _, text := range termstyle.Wrap(err.Error(), l.Width()-6) {
			fmt.Fprintf(w, "      %s\n", text)
		}
	}
	for _, c := range checks {
		if c.err != nil {
			line(termstyle.Bad, "", "controller "+c.url, "FAIL")
			why(c.err)
			continue
		}
		line(termstyle.Good, "", "controller "+c.url, "OK  version "+c.version)
		registry := "registry"
		if c.registry != "" {
			registry += " " + c.registry
		}
		if c.registryErr != nil {
			line(termstyle.Bad, "  ", registry, "FAIL")
			why(c.registryErr)
			continue
		}
		line(termstyle.Good, "  ", registry, "OK")
		if c.registryLost {
			why(fmt.Errorf("the controller itself cannot use its registry now, and starts no VM; %s/readyz?verbose tells why", c.url))
		}
	}
	for _, same := range sameControllers(checks) {
		for i, text := range termstyle.Wrap(strings.Join(same, ", ")+" are one controller: each needs an address of its own to be a second one", l.Width()-6) {
			if i == 0 {
				text = l.Sign(termstyle.Warn) + "note: " + text
			} else {
				text = "      " + text
			}
			fmt.Fprintln(w, text)
		}
	}
}

// sameControllers are the addresses that lead to the same controller.
func sameControllers(checks []serverCheck) [][]string {
	byID := make(map[string][]string)
	var order []string
	for _, c := range checks {
		if c.serverID == "" {
			continue
		}
		if byID[c.serverID] == nil {
			order = append(order, c.serverID)
		}
		byID[c.serverID] = append(byID[c.serverID], c.url)
	}
	var same [][]string
	for _, id := range order {
		if len(byID[id]) > 1 {
			same = append(same, byID[id])
		}
	}
	return same
}

// judgeChecks decides whether to join. A node that can reach no registry would be
// given VMs that it can not start: a first join needs one, and other is any that
// answers besides those that were tested.
func judgeChecks(checks []serverCheck, other func() string) error {
	well, imposters, registries := 0, 0, 0
	hint := ""
	for _, c := range checks {
		switch {
		case c.err == nil:
			well++
			if c.registryErr == nil {
				registries++
			}
		case c.notController:
			imposters++
		}
		hint = cmp.Or(hint, c.hint)
	}
	switch {
	case registries > 0, well > 0 && other() != "":
		return nil
	case well > 0:
		return noRegistry(checks)
	case imposters > 0:
		return hintf(usagef("cannot join: what answers is not a controller"), "%s", cmp.Or(hint, "pass the controllers' addresses with their ports, e.g. http://10.0.1.4:8090"))
	}
	if hint != "" {
		return hintf(errors.New("cannot join: no controller can be used as it was given"), "%s", hint)
	}
	return hintf(errors.New("cannot join: no controller answered"), "start a controller, or pass its address with the port, e.g. http://10.0.1.4:8090")
}

// errNoRegistry: controllers answer, and none of the registries.
var errNoRegistry = errors.New("no registry answers")

// noRegistry says who announced the addresses that do not answer: they are mended
// there.
func noRegistry(checks []serverCheck) error {
	for _, c := range checks {
		if c.err == nil && c.registry != "" {
			return hintf(fmt.Errorf("cannot join: %w, so that no VM could start here", errNoRegistry),
				"%s announces the registry %s: start that, or give the controller the right address with --anka-registry "+
					"(with a built-in registry: --advertise-url); --skip-tests joins all the same", c.url, c.registry)
		}
	}
	return hintf(fmt.Errorf("cannot join: no controller announces a registry: %w, so that no VM could start here", errNoRegistry),
		"start the controllers with --anka-registry http://REGISTRY:8089; --skip-tests joins all the same")
}

// translated tells whether this program is the right one for the processor; a test has
// its own.
var translated = doctor.Translated

// refuseTranslated refuses to join with the program for Intel on Apple silicon: it
// would tell the cloud of another machine, and start VMs through Rosetta.
func refuseTranslated(ctx context.Context) error {
	if f := translated(ctx); f.Level == doctor.Fail {
		return hintf(fmt.Errorf("cannot join: %s", f.Summary), "%s", f.Advice)
	}
	return nil
}

// launchDaemons is where other agents' services are looked for; a test has its own.
var launchDaemons = doctor.LaunchDaemons

// refuseRivals refuses to join beside an agent that would end this one's VMs, and
// warns of others that take their places. Processes that cannot be listed are the
// doctor's to tell.
func refuseRivals(ctx context.Context, warnings io.Writer) error {
	found, _ := doctor.Rivals(ctx, launchDaemons)
	for _, r := range found {
		if r.Removes {
			return hintf(fmt.Errorf("cannot join: %s is on this Mac (%s): the two would end each other's VMs", r.Name, r.Seen), "%s", r.Leave)
		}
		fmt.Fprintf(warnings, "warning: %s is on this Mac (%s): VMs that it starts take this node's places\n", r.Name, r.Seen)
	}
	return nil
}
