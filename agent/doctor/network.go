package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// controllerProbe is what one controller answered.
type controllerProbe struct {
	url      string
	finding  Finding
	answered bool
	// skew is how far this machine's clock is ahead of the controller's.
	skew       time.Duration
	registries []string
	problems   []string // what the controller knows to be wrong with the cloud
}

// probeController asks the two calls that need nothing but a working route.
func probeController(ctx context.Context, cfg Config, base string) controllerProbe {
	p := controllerProbe{url: base, finding: Finding{Check: "controller", Target: base, Level: OK}}
	sent := time.Now()
	status, date, err := get[controllerapi.Status](ctx, cfg, "controller", base, "/api/v1/status")
	took := time.Since(sent)
	if err != nil {
		p.finding = explain("controller", base, err, cfg)
		return p
	}
	p.answered = true
	p.finding.Summary = fmt.Sprintf("version %s answers in %s", status.Version, took.Round(time.Millisecond))
	if !date.IsZero() {
		// A Date header is cut to whole seconds: half of one is the best guess.
		p.skew = sent.Add(took / 2).Sub(date.Add(500 * time.Millisecond))
	}
	if status.RegistryAddress != "" {
		p.registries = append(p.registries, status.RegistryAddress)
	}
	if status.RegistryStatus == "FAIL" {
		p.finding.Level = Warn
		p.finding.Summary += ", but it cannot reach its registry " + status.RegistryAddress
		p.finding.Advice = "start the registry, or correct ANKA_ANKA_REGISTRY of that controller"
	}
	// Only the original lacks this call, and it names its registry in the status.
	if cluster, _, err := get[controllerapi.Cluster](ctx, cfg, "controller", base, "/api/v1/cluster"); err == nil {
		for _, r := range cluster.Registries {
			p.registries = append(p.registries, r.URL)
		}
		p.problems = cluster.Problems
	}
	return p
}

func controllerFindings(probes []controllerProbe) []Finding {
	if len(probes) == 0 {
		return one(Finding{Check: "controller", Level: Fail, Summary: "no controller is known: this node has not joined a cloud",
			Advice: "run ankacluster join URL, or give a controller's URL to ankacluster doctor"})
	}
	var all []Finding
	var skews []time.Duration
	lost := 0
	for _, p := range probes {
		all = append(all, p.finding)
		if !p.answered {
			lost++
			continue
		}
		skews = append(skews, p.skew)
		for _, text := range p.problems {
			f := Finding{Check: "cloud", Level: Warn, Summary: text, Advice: "look at " + p.url + "/readyz?verbose; it is the cloud's, and not this node's"}
			if !slices.ContainsFunc(all, func(other Finding) bool { return other.Check == f.Check && other.Summary == f.Summary }) {
				all = append(all, f)
			}
		}
	}
	if lost < len(probes) {
		// One that is down among several is what the balancer is for.
		for i := range all {
			if all[i].Level == Fail {
				all[i].Level = Warn
				all[i].Summary += " (the node works through the others)"
			}
		}
		all = append(all, clockFinding(skews))
	}
	return all
}

// Limits of the clock: beyond the first, logs of several machines cannot be read
// together; beyond the second, handshakes and certificates begin to fail.
const (
	clockWarn = 5 * time.Second
	clockFail = 2 * time.Minute
)

// clockFinding judges by the median, so that one controller with a wrong clock
// does not accuse the node.
func clockFinding(skews []time.Duration) Finding {
	slices.Sort(skews)
	skew := skews[len(skews)/2]
	f := Finding{Check: "clock", Level: OK, Summary: "agrees with the controllers"}
	if skew.Abs() < clockWarn {
		return f
	}
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	f.Level, f.Summary = Warn, fmt.Sprintf("is %s %s the controllers'", skew.Abs().Round(time.Second), word)
	f.Advice = "set it: sudo sntp -sS time.apple.com, and switch on the automatic time"
	if skew.Abs() >= clockFail {
		f.Level, f.Summary = Fail, f.Summary+": keys and certificates are refused"
	}
	return f
}

func registryFindings(ctx context.Context, cfg Config, probes []controllerProbe) []Finding {
	urls := slices.Clone(cfg.Registries)
	for _, p := range probes {
		urls = append(urls, p.registries...)
	}
	slices.Sort(urls)
	urls = slices.Compact(urls)
	found := make([]Finding, len(urls))
	var wg sync.WaitGroup
	for i, u := range urls {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
			defer cancel()
			found[i] = checkRegistry(ctx, cfg, u)
		})
	}
	wg.Wait()
	if slices.ContainsFunc(found, func(f Finding) bool { return f.Level == OK }) {
		for i := range found {
			if found[i].Level == Fail {
				found[i].Level = Warn
				found[i].Summary += " (the node works through the others)"
			}
		}
	}
	return found
}

func checkRegistry(ctx context.Context, cfg Config, base string) Finding {
	start := time.Now()
	status, _, err := get[registryapi.Status](ctx, cfg, "registry", base, "/registry/status")
	if err != nil {
		return explain("registry", base, err, cfg)
	}
	return Finding{Check: "registry", Target: base, Level: OK,
		Summary: fmt.Sprintf("version %s answers in %s", status.Version, time.Since(start).Round(time.Millisecond))}
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// get returns the body of an enveloped answer and its Date, which is zero where that
// is not known.
func get[T any](ctx context.Context, cfg Config, server, base, path string) (body T, date time.Time, err error) {
	var header http.Header
	client := wire.Client{Base: strings.TrimRight(base, "/"), HTTP: cfg.Client, Server: server, MaxAnswer: maxAnswer}
	body, err = wire.Call[T](ctx, &client, wire.Request{Method: http.MethodGet, Path: path, Answer: &header})
	date, _ = http.ParseTime(header.Get("Date"))
	return body, date, err
}

// explain turns an error of a request into what happened, and what to do.
func explain(check, base string, err error, cfg Config) Finding {
	f := Finding{Check: check, Target: base, Level: Fail}
	u, parseErr := url.Parse(base)
	if parseErr != nil || u.Host == "" {
		f.Summary, f.Advice = "is no URL", "join again with addresses such as http://10.0.1.4:8090"
		return f
	}
	f.Summary, f.Advice = reason(err, check, u, cfg)
	return f
}

func reason(err error, check string, u *url.URL, cfg Config) (summary, advice string) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
		if port == "" {
			port = "80"
		}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "the name " + host + " is not known", "check the spelling, and what dscacheutil -q host -a name " + host + " says"
		}
		return "the name server does not answer for " + host, "check the network's DNS settings"
	}
	if answer, ok := wire.Answered(err, check); ok {
		if answer.Code == wire.CodeForeign {
			return fmt.Sprintf("another program answers there (%d %s), no %s", answer.Status, http.StatusText(answer.Status), check), "check the port: is it missing, or that of another server?"
		}
		switch answer.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return "answers, but wants a key or certificate that it accepts: " + answer.Message, "join again with --api-key-id and --api-key-file, or --cert and --cert-key"
		case http.StatusServiceUnavailable:
			return "answers, but is not ready: " + answer.Message, "look at its log and, for a controller, at its etcd"
		}
		return fmt.Sprintf("answered %d %s", answer.Status, answer.Message), "look at its log"
	}
	if text, advice, ok := TLSReason(err, u); ok {
		return text, advice
	}
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return host + " is there, but nothing listens on port " + port, "start the " + check + ", or correct the port"
	case errors.Is(err, unix.EHOSTUNREACH) && cfg.GOOS == "darwin" && localAddress(host):
		return "no route to " + host + ": macOS may be hiding the local network from this program",
			"allow it in System Settings > Privacy & Security > Local Network, or run the agent as root, who is exempt"
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return "no route to " + host, "check the cable or Wi-Fi, the address, and netstat -rn"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Sprintf("no answer within %s", cfg.Timeout), "check the address and firewalls in between: nc -vz " + host + " " + port
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "accepts and hangs up", "look at its log; a proxy or TLS server on that port does this too"
	}
	return err.Error(), "check the address and the server's log"
}

// TLSReason tells what a TLS connection to u failed of, and what to do about it;
// ok is false when it was nothing of TLS.
func TLSReason(err error, u *url.URL) (summary, advice string, ok bool) {
	if u.Scheme == "https" {
		if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
			return "speaks plain HTTP", "use http:// for it, or switch on TLS there", true
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is signed by someone unknown", "join again with --cacert FILE, the certificate of who signed it", true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		why, _, _ := clienttls.Reason(err)
		return why, "use a name or address that is in the certificate", true
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return "its certificate has expired or is not valid yet", "renew it, or correct this machine's clock", true
		}
		return "its certificate is not valid: " + invalid.Error(), "look at it: openssl s_client -connect " + u.Host, true
	}
	return "", "", false
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// localAddress reports whether host is one that macOS counts as local network.
func localAddress(host string) bool {
	if strings.HasSuffix(host, ".local") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast())
}
