package etcdmember

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ankacluster/ankacluster/internal/backoff"
)

// ClientConfig says how a controller reaches etcd.
type ClientConfig struct {
	Endpoints []string
	TLS       *tls.Config // nil for plain HTTP

	// Username and Password log in to an etcd that has authentication on.
	Username, Password string

	// Follow makes the client learn the cluster's voting members and use them as
	// endpoints. It is for clusters whose members announce addresses that are
	// reachable from here, as ours do.
	Follow bool
}

// How the members are watched. A member that is paused or cut off keeps its
// connections, and gRPC itself would notice only after ten seconds and more; a
// caller of the controller waits for five at most.
const (
	watchEvery   = 500 * time.Millisecond
	watchTimeout = 1 * time.Second
	sickAfter    = 2 // answers missed in a row; one may be a pause of the whole machine
	followEvery  = 10 * time.Second
)

// Client is an etcd client that stays off members which are connected but do not
// answer or have no leader. Run does the watching; without it the client is an
// ordinary one.
type Client struct {
	*clientv3.Client
	cfg   ClientConfig
	log   *zap.Logger
	conns *connTable
}

// Connect returns a client. It contacts nobody yet, except that a login is tried
// at once when there is a user name.
func Connect(cfg ClientConfig, log *zap.Logger) (*Client, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("no etcd endpoints")
	}
	log = log.Named("etcdclient")
	conns := &connTable{byAddr: make(map[string]map[*trackedConn]bool)}
	cc := baseClientConfig(cfg, log)
	cc.Endpoints = slices.Clone(cfg.Endpoints)
	cc.Username, cc.Password = cfg.Username, cfg.Password
	cc.DialOptions = []grpc.DialOption{grpc.WithContextDialer(conns.dial)}
	client, err := clientv3.New(cc)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	// Builds the connection's resolver now: built later, behind our back, it races
	// with the first SetEndpoints.
	client.ActiveConnection().Connect()
	return &Client{Client: client, cfg: cfg, log: log, conns: conns}, nil
}

func baseClientConfig(cfg ClientConfig, log *zap.Logger) clientv3.Config {
	// Its warnings come once a second and call, and say in the words of gRPC what
	// the watch of the members says once.
	quiet := newQuiet(log)
	quiet.level.SetLevel(zap.ErrorLevel)
	return clientv3.Config{
		TLS:         cfg.TLS,
		DialTimeout: 5 * time.Second,
		// With a keep-alive set, Linux also drops a connection whose data stay
		// unacknowledged for this timeout: the case of a host that was cut off.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		Logger:               quiet.Logger,
	}
}

// member is one endpoint under watch.
type member struct {
	client *clientv3.Client // a connection of its own, so that the verdict is about this member alone
	misses int
	sick   bool
}

// Run watches the members until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	members := make(map[string]*member)
	defer func() {
		for _, m := range members {
			m.client.Close()
		}
	}()
	c.adopt(members, c.cfg.Endpoints)
	lastFollow := time.Now()
	for backoff.Sleep(ctx, watchEvery) {
		if c.cfg.Follow && time.Since(lastFollow) > followEvery {
			lastFollow = time.Now()
			if urls := c.voters(ctx); len(urls) > 0 {
				c.adopt(members, urls)
			}
		}
		if c.examine(ctx, members) {
			c.steer(members)
		}
	}
	return nil
}

// adopt makes members the set of endpoints.
func (c *Client) adopt(members map[string]*member, endpoints []string) {
	changed := false
	for ep, m := range members {
		if !slices.Contains(endpoints, ep) {
			m.client.Close()
			delete(members, ep)
			changed = true
		}
	}
	for _, ep := range endpoints {
		if members[ep] != nil {
			continue
		}
		cc := baseClientConfig(c.cfg, c.log)
		cc.Endpoints = []string{ep}
		client, err := clientv3.New(cc)
		if err != nil {
			c.log.Error("etcd endpoint cannot be used", zap.String("endpoint", ep), zap.Error(err))
			continue
		}
		members[ep] = &member{client: client}
		changed = true
	}
	if changed {
		c.steer(members)
	}
}

// examine asks every member how it is, and reports whether a verdict changed.
func (c *Client) examine(ctx context.Context, members map[string]*member) bool {
	var wg sync.WaitGroup
	var mu sync.Mutex
	changed := false
	for ep, m := range members {
		wg.Go(func() {
			err := answers(ctx, m.client, ep)
			if ctx.Err() != nil {
				return
			}
			was := m.sick
			if err == nil {
				m.misses, m.sick = 0, false
			} else if m.misses++; m.misses >= sickAfter {
				m.sick = true
			}
			if m.sick == was {
				return
			}
			if m.sick {
				c.log.Warn("etcd member out of use", zap.String("endpoint", ep), zap.Error(cmp.Or(unreachable(ctx, ep), err)))
			} else {
				c.log.Info("etcd member in use again", zap.String("endpoint", ep))
			}
			mu.Lock()
			changed = true
			mu.Unlock()
		})
	}
	wg.Wait()
	return changed
}

// unreachable is why there is no connection to an endpoint, nil when there is one:
// the client only knows that its time was up. It is quick: the members wait for it.
func unreachable(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: 200 * time.Millisecond}
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	_ = conn.Close()
	return nil
}

// answers returns nil when the member answers and follows a leader.
func answers(ctx context.Context, client *clientv3.Client, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	status, err := client.Status(ctx, endpoint)
	switch {
	case err != nil:
		return err
	case status.Leader == 0:
		return errors.New("it has no leader")
	case status.IsLearner:
		return errors.New("it is a learner")
	}
	return nil
}

// steer points the client at the members that are well, at all of them when none
// is, and cuts the connections to the others: calls and watches that hang there
// fail now and go elsewhere.
func (c *Client) steer(members map[string]*member) {
	var well, sick []string
	for _, ep := range slices.Sorted(maps.Keys(members)) {
		if members[ep].sick {
			sick = append(sick, ep)
		} else {
			well = append(well, ep)
		}
	}
	if len(well) == 0 {
		if len(sick) > 0 {
			c.SetEndpoints(sick...)
		}
		return
	}
	c.SetEndpoints(well...)
	for _, ep := range sick {
		c.conns.cut(ep)
	}
}

// voters returns the client addresses of the cluster's voting members.
func (c *Client) voters(ctx context.Context) []string {
	members, err := memberList(ctx, c.Client)
	if err != nil {
		return nil // the members in use stay; examine says what is wrong with them
	}
	return Cluster{Members: members}.clientURLs()
}

// connTable knows the open connections by address.
type connTable struct {
	mu     sync.Mutex
	byAddr map[string]map[*trackedConn]bool // guarded by mu
}

type trackedConn struct {
	net.Conn
	table *connTable
	addr  string
}

func (t *connTable) dial(ctx context.Context, addr string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", strings.TrimPrefix(path, "//")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	tracked := &trackedConn{Conn: conn, table: t, addr: addr}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byAddr[addr] == nil {
		t.byAddr[addr] = make(map[*trackedConn]bool)
	}
	t.byAddr[addr][tracked] = true
	return tracked, nil
}

func (c *trackedConn) Close() error {
	c.table.mu.Lock()
	delete(c.table.byAddr[c.addr], c)
	c.table.mu.Unlock()
	return c.Conn.Close()
}

// cut closes the connections to an endpoint.
func (t *connTable) cut(endpoint string) {
	addr := endpoint
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		addr = u.Host
	}
	t.mu.Lock()
	conns := slices.Collect(maps.Keys(t.byAddr[addr]))
	t.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}
