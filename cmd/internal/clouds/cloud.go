package clouds

import (
	"context"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// Config is how a cloud is reached. Its form is that of a context in a File.
type Config struct {
	Controllers []string `json:"controllers"`
	// CACert is a PEM file of an authority to trust beside the system's.
	CACert              string `json:"cacert,omitempty"`
	SkipTLSVerification bool   `json:"skip_tls_verification,omitempty"`
}

// Cloud is a cloud that is reached. It is safe for concurrent use.
type Cloud struct {
	*controllerapi.Client
	// Registry lists templates, through the controllers.
	Registry *registryapi.Client
}

// Patience is how long a call waits for a controller that answers: as long as a new
// leader of etcd takes, and a person waits.
const Patience = 8 * time.Second

// base is the URL that stands for the pool: the balancer replaces its host.
const base = "http://controllers"

// slow is after how long a person wants to know what is waited for.
const slow = 2 * time.Second

// firstAnswer calls waits when the first answer takes its time.
type firstAnswer struct {
	http.RoundTripper
	waits func()
	once  sync.Once
	alarm *time.Timer
}

// RoundTrip implements http.RoundTripper.
func (f *firstAnswer) RoundTrip(req *http.Request) (*http.Response, error) {
	f.once.Do(func() { f.alarm = time.AfterFunc(slow, f.waits) })
	defer f.alarm.Stop()
	return f.RoundTripper.RoundTrip(req)
}

// Use calls f with the cloud, whose pool of controllers lives as long as the call. waits
// is called when no controller answers at once.
func Use(ctx context.Context, cfg Config, waits func(), f func(context.Context, *Cloud) error) error {
	trust, err := clienttls.New(clienttls.Options{CA: cfg.CACert, SkipVerify: cfg.SkipTLSVerification})
	if err != nil {
		return err
	}
	pool := balancer.DefaultConfig()
	pool.Name, pool.TLSFor, pool.Retry.MaxElapsed = "controllers", trust.For, Patience
	b, err := balancer.New(pool, zap.NewNop())
	if err != nil {
		return err
	}
	if err := b.SetMembers(balancer.OriginJoin, cfg.Controllers); err != nil {
		return err
	}
	hc := &http.Client{CheckRedirect: wire.NoRedirect, Transport: &firstAnswer{RoundTripper: b.Client().Transport, waits: waits}}
	ctx, done := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.Run(ctx) })
	g.Go(func() error {
		defer done()
		return f(ctx, &Cloud{controllerapi.NewClient(base, hc), registryapi.NewClientOfController(base, hc)})
	})
	return g.Wait()
}
