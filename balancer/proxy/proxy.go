package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer"
)

// Config is what a Proxy serves.
type Config struct {
	// Control carries small requests.
	Control *balancer.Balancer
	// Blob carries large transfers of a registry; nil sends all over Control.
	Blob *balancer.Balancer
	// Step tells what a request to a registry is part of; it is needed with Blob.
	// Requests of one push, which write to one repository, go to one registry.
	Step func(r *http.Request) (repo string, write, blob bool)
	// Fail writes an answer of the proxy's own; nil writes plain text.
	Fail func(w http.ResponseWriter, r *http.Request, status int, reason string)
	// FirstContact bounds how long a request waits for an endpoint while none
	// has ever answered; 0 is 2 s. Afterwards the pool's own limit holds.
	FirstContact time.Duration
}

// keepBody is the size up to which a request's body is kept, so that it can be
// sent again. A request that may not be repeated is streamed.
const keepBody = 1 << 20

// Proxy is an http.Handler.
type Proxy struct {
	cfg    Config
	log    *zap.Logger
	pushes pushes
	hops   *hops
}

// New returns a proxy. It starts nothing; the pools' Run is the caller's.
func New(cfg Config, log *zap.Logger) *Proxy {
	if log == nil {
		log = zap.NewNop()
	}
	if cfg.Fail == nil {
		cfg.Fail = failText
	}
	if cfg.FirstContact == 0 {
		cfg.FirstContact = 2 * time.Second
	}
	return &Proxy{cfg: cfg, log: log.Named("proxy"), hops: newHops()}
}

// keepable reports whether a request which waits for "100 Continue" may be taken in here
// and repeated: its key says so, and it is small as far as is known.
func keepable(r *http.Request) bool {
	expect := r.Header["Expect"]
	return len(expect) == 1 && strings.EqualFold(expect[0], "100-continue") && len(r.Header["Upgrade"]) == 0 &&
		r.ContentLength <= keepBody && balancer.Repeatable(r)
}

// stayHTTP1 turns down an offer to go on in HTTP/2, which Java's client makes
// with each request: as a conversation with one endpoint none of them could be
// repeated at another.
func stayHTTP1(r *http.Request) {
	if offer := r.Header["Upgrade"]; len(offer) == 1 && strings.EqualFold(offer[0], "h2c") {
		delete(r.Header, "Upgrade")
	}
}

// ServeHTTP passes r on to an endpoint of the right pool.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := p.hops.mark(r); why != "" {
		p.hops.tell(p.log, why)
		p.cfg.Fail(w, r, http.StatusLoopDetected, why)
		return
	}
	if r.ContentLength != 0 {
		// The server reads, drops and closes what is left of a request's body before it
		// writes an answer's header. The body is the endpoint's: its connection may be
		// sending the rest, or about to see the end, and would break under the answer.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	pool := p.cfg.Control
	if p.cfg.Blob != nil {
		repo, write, blob := p.cfg.Step(r)
		if blob {
			pool = p.cfg.Blob
		}
		if write && repo != "" {
			r = p.pushes.route(r, repo, pool)
		}
	}
	if !pool.EverAnswered() {
		r = r.WithContext(balancer.WithPatience(r.Context(), p.cfg.FirstContact))
	}
	stayHTTP1(r)
	if err := keepSmallBody(r); err != nil {
		p.cfg.Fail(w, r, http.StatusBadRequest, fmt.Sprintf("request body could not be read: %v", err))
		return
	}
	p.forward(w, r, pool)
}

// keepSmallBody makes a request that may be repeated repeatable, however its body
// comes: with a length, in chunks, or after a "100 Continue", which the server here
// sends when it is read. What is too large to be kept passes as it comes.
func keepSmallBody(r *http.Request) error {
	if r.ContentLength == 0 || r.ContentLength > keepBody || !balancer.Repeatable(r) || len(r.Header["Expect"]) > 0 && !keepable(r) {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, keepBody+1))
	if err != nil {
		return err
	}
	r.Header.Del("Expect") // it has been met
	if len(data) > keepBody {
		r.Body = &prefixed{io.MultiReader(bytes.NewReader(data), r.Body), r.Body}
		return nil
	}
	r.Body.Close()
	if len(r.Trailer) == 0 { // they have come with the body, and follow chunks only
		r.ContentLength = int64(len(data))
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	r.Body, _ = r.GetBody()
	return nil
}

type prefixed struct {
	io.Reader
	io.Closer
}

// localLocation keeps redirects to the serving endpoint inside the proxy: the
// client may not even be able to reach the endpoint itself, and knows nothing of
// a path that is the endpoint's own. asked is the client's path.
func (p *Proxy) localLocation(resp *http.Response, asked string) {
	p.pushes.learn(resp)
	loc := resp.Header.Get("Location")
	if loc == "" || resp.Request == nil {
		return
	}
	base := strings.TrimSuffix(resp.Request.URL.Path, asked)
	u, err := url.Parse(loc)
	if err != nil || u.Host == "" && base == "" || u.Host != "" && !strings.EqualFold(u.Host, resp.Request.URL.Host) {
		return
	}
	rest, below := strings.CutPrefix(u.Path, base)
	if base != "" && (!below || !strings.HasPrefix(rest, "/")) {
		return
	}
	u.Scheme, u.Host, u.Path = "", "", rest
	u.RawPath = strings.TrimPrefix(u.RawPath, (&url.URL{Path: base}).EscapedPath())
	resp.Header.Set("Location", u.String())
}

// failed answers for an endpoint that could not.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone: nobody reads an answer
	}
	status := http.StatusBadGateway
	var pass *balancer.PassError
	switch {
	case errors.Is(err, balancer.ErrBody):
		status = http.StatusBadRequest
	case errors.As(err, &pass) && pass.Repeatable:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	p.log.Warn("request not answered", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	p.cfg.Fail(w, r, status, err.Error())
}

func failText(w http.ResponseWriter, _ *http.Request, status int, reason string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, reason)
}
