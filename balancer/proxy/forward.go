package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ankacluster/ankacluster/balancer"
)

// forward sends r to an endpoint of the pool and its answer to w. It does what
// httputil.ReverseProxy does and no more: what the balancer has read is written as it is,
// and a large download goes from connection to connection by itself. "100 Continue" is
// left to the server here, which writes it when the body is first read: the transport
// does so as soon as the endpoint has asked for it.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, pool *balancer.Balancer) {
	early := interim{w: w}
	out := outward(early.traced(r), r)
	if out.Body != nil && len(out.Header["Expect"]) > 0 {
		out.Body = &heldBody{ReadCloser: out.Body}
	}
	if out.Body != nil {
		// The transport may still read when this handler has returned, and must not.
		defer out.Body.Close()
	}
	resp, err := pool.Client().Transport.RoundTrip(out)
	early.end()
	if err != nil {
		p.failed(w, r, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if err := converse(w, r, resp); err != nil {
			p.failed(w, r, err)
		}
		return
	}
	p.localLocation(resp, r.URL.Path)
	header := w.Header()
	for name, values := range resp.Header {
		if !hopByHop(name) {
			header[name] = values
		}
	}
	dropListed(header, resp.Header["Connection"])
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // the endpoint names none: nor does the server here
	}
	announced := announceTrailers(header, resp)
	w.WriteHeader(resp.StatusCode)
	if err := copyBody(w, resp); err != nil {
		panic(http.ErrAbortHandler) // the client must not take what it has for the whole
	}
	resp.Body.Close() // fills in the trailers
	passTrailers(w, resp, announced)
}

// heldBody is the body of a client that waits to be asked for it. Closing it leaves the
// client's alone: the server would read the rest, and a client that was refused sends none.
type heldBody struct {
	io.ReadCloser
	closed atomic.Bool
}

func (h *heldBody) Read(p []byte) (int, error) {
	if h.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return h.ReadCloser.Read(p)
}

func (h *heldBody) Close() error {
	h.closed.Store(true)
	return nil
}

// interim passes on what an endpoint says before its answer, such as "103 Early
// Hints". Attempts may run side by side, and one that lost may still speak when
// the answer is being written.
type interim struct {
	mu   sync.Mutex
	w    http.ResponseWriter // guarded by mu
	over bool                // guarded by mu
}

// traced is the context under which an endpoint's early words reach the client.
// HTTP/1.0 knows of none.
func (i *interim) traced(r *http.Request) context.Context {
	if !r.ProtoAtLeast(1, 1) {
		return r.Context()
	}
	return httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: i.pass})
}

func (i *interim) pass(code int, header textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over || code == http.StatusContinue { // the client did not wait for it
		return nil
	}
	h := i.w.Header()
	for name, values := range header {
		if !hopByHop(name) {
			h[name] = values
		}
	}
	i.w.WriteHeader(code)
	clear(h) // it was not the answer's
	return nil
}

func (i *interim) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
}

// outward is r as the pool gets it: headers that concern this connection only
// are left out, and where it came from is added. Values are shared with r.
func outward(ctx context.Context, r *http.Request) *http.Request {
	out := r.WithContext(ctx)
	u := *r.URL
	u.Scheme, u.Host = "http", "pool"
	out.URL, out.Host, out.RequestURI, out.Close = &u, "", "", false
	if r.ContentLength == 0 {
		out.Body = nil
	}
	out.Header = make(http.Header, len(r.Header)+4)
	for name, values := range r.Header {
		if !hopByHop(name) {
			out.Header[name] = values
		}
	}
	dropListed(out.Header, r.Header["Connection"])
	if to := upgradeOf(r.Header); to != "" {
		out.Header["Connection"], out.Header["Upgrade"] = []string{"Upgrade"}, []string{to}
	}
	for _, te := range r.Header["Te"] {
		if strings.Contains(te, "trailers") {
			out.Header["Te"] = []string{"trailers"}
		}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // not the transport's own
	}
	delete(out.Header, "Forwarded")
	forwarded := make([]string, 3)
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		forwarded[0] = host // what the client says of where it came from is not known to be true
		out.Header["X-Forwarded-For"] = forwarded[0:1:1]
	}
	forwarded[1], forwarded[2] = r.Host, "http"
	if r.TLS != nil {
		forwarded[2] = "https"
	}
	out.Header["X-Forwarded-Host"], out.Header["X-Forwarded-Proto"] = forwarded[1:2:2], forwarded[2:3:3]
	return out
}

// hopByHop reports whether a header concerns one connection only (RFC 9110, 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// dropListed removes the headers that a Connection header names.
func dropListed(h http.Header, connection []string) {
	for _, list := range connection {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
}

// announceTrailers says which trailers the answer will have, and how many.
func announceTrailers(header http.Header, resp *http.Response) int {
	for name := range resp.Trailer {
		header.Add("Trailer", name)
	}
	return len(resp.Trailer)
}

func passTrailers(w http.ResponseWriter, resp *http.Response, announced int) {
	if len(resp.Trailer) == 0 {
		return
	}
	_ = http.NewResponseController(w).Flush() // only a chunked answer has trailers
	prefix := ""
	if len(resp.Trailer) != announced {
		prefix = http.TrailerPrefix
	}
	for name, values := range resp.Trailer {
		w.Header()[prefix+name] = values
	}
}

// copyBody copies an answer's body. An answer that comes as a stream is passed
// on piece by piece.
func copyBody(w http.ResponseWriter, resp *http.Response) error {
	if whole, ok := resp.Body.(io.WriterTo); ok {
		_, err := whole.WriteTo(w)
		return err
	}
	if resp.Body == http.NoBody {
		return nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if resp.ContentLength >= 0 {
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, resp.Body, *buf)
		return err
	}
	flush := http.NewResponseController(w).Flush
	_ = flush() // the header at once: the first byte may be long in coming
	for {
		n, readErr := resp.Body.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return err
			}
			_ = flush()
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// buffers are what transfers are copied through: memory does not grow with the
// size of a blob.
var buffers = sync.Pool{New: func() any {
	buf := make([]byte, 128<<10)
	return &buf
}}
