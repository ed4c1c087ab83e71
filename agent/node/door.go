package node

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/oci"
)

// door lets the hypervisor's commands to the registries through: each with the
// password of its transfer, to that transfer's repository, and with the methods that
// it needs. What passes has the node's rights, and every user of the host, a job in a
// VM that reaches loopback, and a web page can knock.
type door struct {
	host string // that requests must name: with another name, a page of that name asks
	log  *zap.Logger

	mu     sync.Mutex
	passes []*pass // guarded by mu; of the transfers under way
}

// pass is what one transfer may do.
type pass struct {
	hypervisor.Transfer
	password string
	digest   digest.Digest // of the tag's manifest, "" when it is not known

	mu   sync.Mutex
	repo string // guarded by mu; that it is bound to, "" before a push of a new template has begun
}

func newDoor(l net.Listener, log *zap.Logger) *door {
	return &door{host: l.Addr().String(), log: log}
}

// doorUser is the user's name beside each password.
const doorUser = "node"

// open lets a transfer through until done is called.
func (d *door) open(t hypervisor.Transfer) (password string, done func(), err error) {
	p := &pass{Transfer: t, password: rand.Text(), repo: t.Repository}
	if t.Digest != "" {
		if p.digest, err = oci.ParseDigest(t.Digest); err != nil {
			return "", nil, fmt.Errorf("%s:%s: %w", t.Repository, t.Tag, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passes = append(d.passes, p)
	return p.password, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.passes = slices.DeleteFunc(d.passes, func(other *pass) bool { return other == p })
	}, nil
}

// holder returns the pass that a request shows, nil for none.
func (d *door) holder(r *http.Request) *pass {
	user, password, ok := r.BasicAuth()
	if !ok || user != doorUser {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.passes {
		if subtle.ConstantTimeCompare([]byte(p.password), []byte(password)) == 1 {
			return p
		}
	}
	return nil
}

// guard returns the handler that passes on what may pass.
func (d *door) guard(next http.Handler) http.Handler {
	return oci.Reading(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int, code oci.Code, reason string) {
			d.log.Warn("the loopback registry refused a request", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.String("reason", reason))
			oci.NewError(status, code, reason).Write(w)
		}
		if r.Host != d.host {
			refuse(http.StatusMisdirectedRequest, oci.CodeDenied, "this is the registry of a node's hypervisor, and has no other name than its address")
			return
		}
		p := d.holder(r)
		if p == nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="the node's hypervisor"`)
			refuse(http.StatusUnauthorized, oci.CodeUnauthorized, "only the command of a transfer that the agent has begun is let through")
			return
		}
		asked := oci.Of(r)
		if !p.allows(r.Method, asked) {
			refuse(http.StatusForbidden, oci.CodeDenied, "the transfer under way is not of this")
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization") // it was for the door
		want := digest.Digest("")
		if asked.Kind == oci.Manifest && r.Method != http.MethodPut {
			if want = p.pinned(asked.Ref); want != "" {
				r.URL.Path, r.URL.RawPath = oci.ManifestPath(asked.Repo, want.String()), ""
			}
		}
		if want == "" || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		whole := &manifestWriter{header: make(http.Header)}
		next.ServeHTTP(whole, r)
		if why := whole.differs(want); why != "" {
			refuse(http.StatusBadGateway, oci.CodeManifestInvalid, "what the registry serves as "+want.String()+" "+why)
			return
		}
		whole.writeTo(w)
	}))
}

// allows reports whether a request belongs to the transfer. A push of a new template
// is bound to the repository that it writes to first.
func (p *pass) allows(method string, asked oci.Request) bool {
	read := method == http.MethodGet || method == http.MethodHead
	switch asked.Kind {
	case oci.Base:
		return read
	case oci.Tags:
		if !read {
			return false
		}
	case oci.Blob:
		if !read {
			return false
		}
	case oci.Manifest:
		if !read && !(p.Write && method == http.MethodPut) {
			return false
		}
	case oci.Uploads, oci.Upload:
		if !p.Write {
			return false
		}
	default:
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.repo == "" && p.Write && oci.CheckRepository(asked.Repo) == nil {
		p.repo = asked.Repo
	}
	return asked.Repo == p.repo && p.repo != ""
}

// pinned returns the digest that must be served under a reference, "" if any may be.
func (p *pass) pinned(ref string) digest.Digest {
	if d, err := oci.ParseDigest(ref); err == nil {
		return d
	}
	if !p.Write && ref == p.Tag {
		return p.digest
	}
	return ""
}

// maxManifest is the longest manifest that is read before it is passed on. Registries
// take 4 MB.
const maxManifest = 8 << 20

// manifestWriter keeps an answer until it is known to be what was asked for.
type manifestWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *manifestWriter) Header() http.Header { return m.header }

func (m *manifestWriter) WriteHeader(status int) {
	if m.status == 0 && status >= 200 {
		m.status = status
	}
}

func (m *manifestWriter) Write(data []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	if m.body.Len()+len(data) > maxManifest {
		return 0, fmt.Errorf("a manifest of more than %d bytes", maxManifest)
	}
	return m.body.Write(data)
}

// differs tells why the answer is not the manifest, "" if it is, or is an error.
func (m *manifestWriter) differs(want digest.Digest) string {
	if m.status != http.StatusOK {
		return ""
	}
	if got := want.Algorithm().FromBytes(m.body.Bytes()); got != want {
		return "is " + got.String()
	}
	return ""
}

func (m *manifestWriter) writeTo(w http.ResponseWriter) {
	for name, values := range m.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(m.body.Len()))
	w.WriteHeader(max(m.status, http.StatusOK))
	_, _ = w.Write(m.body.Bytes()) // the command went away
}
