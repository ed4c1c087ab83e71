package etcdmember

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// ErrRefused is wrapped by the error of Run when a person has to act before this
// member may start.
var ErrRefused = errors.New("the etcd member does not start")

// Member is an embedded etcd member. Its methods are safe for concurrent use.
type Member struct {
	cfg   Config
	log   *zap.Logger
	ready chan struct{}
	state atomic.Pointer[running]
}

// running is what is known once the embedded server listens.
type running struct {
	etcd      *embed.Etcd
	clientURL string
}

// New checks cfg and starts nothing.
func New(cfg Config, log *zap.Logger) (*Member, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Member{cfg: cfg, log: log.Named("etcd"), ready: make(chan struct{})}, nil
}

// Ready is closed when the member answers and, in a cluster, a majority of the
// hosts votes.
func (m *Member) Ready() <-chan struct{} { return m.ready }

// Endpoints returns the client URLs of all voting members, this one first. It is
// empty before Ready.
func (m *Member) Endpoints() []string {
	r := m.state.Load()
	if r == nil {
		return nil
	}
	urls := []string{r.clientURL}
	for _, mem := range r.etcd.Server.Cluster().Members() {
		if !mem.IsLearner && mem.ID != r.etcd.Server.MemberID() {
			urls = append(urls, mem.ClientURLs...)
		}
	}
	return urls
}

// Run finds or forms the cluster and serves until ctx ends. Its error wraps
// ErrRefused when starting would be wrong.
func (m *Member) Run(ctx context.Context) error {
	cfg := m.cfg
	if err := prepareDir(cfg.DataDir); err != nil {
		return err
	}
	var self Host
	if len(cfg.Cluster) > 0 {
		var err error
		if self, err = findSelf(ctx, cfg.Cluster, cfg.Self); err != nil {
			return err
		}
	} else {
		self = Host{Name: "127.0.0.1", PeerPort: DefaultPeerPort}
	}
	cfg = cfg.withAddresses(self)
	tc, err := cfg.TLS.config()
	if err != nil {
		return err
	}
	f := &formation{cfg: cfg, self: self, tls: tc, log: m.log, quiet: newQuiet(m.log), probe: newProber(cfg.Cluster, tc)}
	etcd, err := f.start(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() {
		f.quiet.silence() // etcd reports every listener that is closed as an error
		closeEtcd(etcd)
	}()
	return m.serve(ctx, f, etcd)
}

// serve owns a started server until ctx or the server ends.
func (m *Member) serve(ctx context.Context, f *formation, etcd *embed.Etcd) error {
	url := localClientURL(etcd)
	r := &running{etcd: etcd, clientURL: url}
	ctx, cancel := context.WithCancelCause(ctx)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		if err := f.settle(ctx, etcd, url); err != nil {
			cancel(err)
			return
		}
		m.state.Store(r)
		close(m.ready)
		m.log.Info("etcd member ready", zap.String("member_id", etcd.Server.MemberID().String()),
			zap.String("cluster_id", etcd.Server.Cluster().ID().String()), zap.Int("members", len(etcd.Server.Cluster().Members())))
		f.keep(ctx, etcd, url)
	}()
	var err error
	select {
	case <-ctx.Done():
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			err = cause
		}
	case err = <-etcd.Err():
		err = fmt.Errorf("the etcd member ended: %w", err)
	case <-etcd.Server.StopNotify():
		err = errors.New("the etcd member ended by itself: was it removed from the cluster?")
	}
	cancel(nil)
	<-settled
	return err
}

// closeEtcd stops a server. Close alone never returns when the server has not
// found a leader yet: it waits for listeners that wait for the leader.
func closeEtcd(etcd *embed.Etcd) {
	select {
	case <-etcd.Server.ReadyNotify():
	default:
		etcd.Server.HardStop()
	}
	etcd.Close()
}

// localClientURL returns the address at which this process reaches its member.
func localClientURL(etcd *embed.Etcd) string {
	addr := etcd.Clients[0].Addr().(*net.TCPAddr)
	advertised := etcd.Config().AdvertiseClientUrls[0]
	if addr.IP.IsUnspecified() {
		return advertised.String()
	}
	advertised.Host = addr.String()
	return advertised.String()
}

// embedConfig returns the configuration common to all ways of starting.
func embedConfig(cfg Config, self Host, log *zap.Logger) (*embed.Config, error) {
	ec := embed.NewConfig()
	ec.Name = self.String()
	ec.Dir = cfg.DataDir
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	ec.QuotaBackendBytes = cfg.QuotaBytes
	ec.AutoCompactionMode = cfg.CompactionMode
	ec.AutoCompactionRetention = cfg.CompactionRetention
	ec.InitialClusterToken = "anka-" + rand.Text() // two clusters begun by one host have two ids
	ec.MaxLearners = 8                             // all hosts may join at the same time
	ec.GRPCKeepAliveMinTime = time.Second          // our clients look after their connections more often than etcd expects
	ec.EnableGRPCGateway = false
	// A lost leader is replaced after one to two election times, and starts wait
	// for it. Hosts of a cloud are milliseconds apart; etcd's own default of a
	// second is for those that are not.
	ec.TickMs, ec.ElectionMs = 100, 500
	if cfg.TLS.Enabled() {
		ec.PeerTLSInfo, ec.ClientTLSInfo = cfg.TLS.info(), cfg.TLS.info()
	}
	tls := cfg.TLS.Enabled()
	peer, err := listenURL(cfg.PeerListen, tls)
	if err != nil {
		return nil, fmt.Errorf("--etcd-listen-peer: %w", err)
	}
	client, err := listenURL(cfg.ClientListen, tls)
	if err != nil {
		return nil, fmt.Errorf("--etcd-listen-client: %w", err)
	}
	ec.ListenPeerUrls, ec.ListenClientUrls = []url.URL{peer}, []url.URL{client}
	ec.AdvertisePeerUrls, ec.AdvertiseClientUrls = []url.URL{peer}, []url.URL{client}
	if len(cfg.Cluster) > 0 {
		peer.Host = self.peerAddr()
		client.Host = (Host{Name: self.Name, PeerPort: mustPort(client)}).peerAddr()
		ec.AdvertisePeerUrls, ec.AdvertiseClientUrls = []url.URL{peer}, []url.URL{client}
		if lo := loopbackOf(ec.ListenClientUrls[0]); lo != nil {
			ec.ListenClientUrls = append(ec.ListenClientUrls, *lo)
		}
	}
	return ec, nil
}

// loopbackOf returns the same port on loopback, where the commands of this host
// look for the member, unless u covers loopback already.
func loopbackOf(u url.URL) *url.URL {
	if ip, err := netip.ParseAddr(u.Hostname()); err != nil || ip.IsUnspecified() || ip.IsLoopback() {
		return nil
	}
	lo := u
	lo.Host = "127.0.0.1:" + u.Port()
	return &lo
}

func listenURL(addr string, tls bool) (url.URL, error) {
	u, err := url.Parse(scheme(tls) + "://" + addr)
	if err != nil {
		return url.URL{}, err
	}
	return *u, nil
}

func mustPort(u url.URL) int {
	n, _ := strconv.Atoi(u.Port()) // Validate has read it as a number
	return n
}

// prepareDir makes the data directory, for this user only, and proves that it
// can be written.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	probe, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return fmt.Errorf("--data-dir %s cannot be written: %w", filepath.Dir(dir), err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// config returns the TLS configuration for both sides, or nil for plain HTTP.
func (t TLS) config() (*tls.Config, error) {
	client, err := t.ClientConfig()
	if err != nil || client == nil {
		return nil, err
	}
	server, err := t.info().ServerConfig()
	if err != nil {
		return nil, fmt.Errorf("--etcd-tls-cert: %w", err)
	}
	server.RootCAs, server.GetClientCertificate = client.RootCAs, client.GetClientCertificate
	server.NextProtos = slices.DeleteFunc(slices.Clone(server.NextProtos), func(p string) bool { return p == "h2" })
	return server, nil
}

// ClientConfig returns what a client of the members needs, or nil for plain HTTP.
func (t TLS) ClientConfig() (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	tc, err := t.info().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("--etcd-tls-cert: %w", err)
	}
	return tc, nil
}

func (t TLS) info() transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: true}
}
