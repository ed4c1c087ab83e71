package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/test/localcloud"
	"github.com/ankacluster/ankacluster/test/simnode"
)

// template is what every instance is started from.
const template = "chaos"

// server is a real process behind links.
type server struct {
	mu      sync.Mutex // one harm at a time
	process *localcloud.Process
	front   *link   // what callers use
	links   []*link // all that are cut together
	ready   string  // URL that says 200, past the links
}

// cluster is three controllers and three etcd members.
type cluster struct {
	servers  map[kindOfServer][]*server
	registry *httptest.Server
}

// newCluster prepares the processes; start starts them. bin holds the
// executables etcd and anka-controller.
func newCluster(bin, dir string) (*cluster, error) {
	ports, err := localcloud.FreePorts(9)
	if err != nil {
		return nil, err
	}
	c := &cluster{servers: make(map[kindOfServer][]*server), registry: httptest.NewServer(simnode.Registry(template))}
	var endpoints, peers []string
	var peerLinks []*link
	for i := range 3 {
		client, err1 := newLink(localcloud.Addr(ports[i]))
		peer, err2 := newLink(localcloud.Addr(ports[3+i]))
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		endpoints = append(endpoints, client.url())
		peers = append(peers, fmt.Sprintf("etcd-%d=%s", i+1, peer.url()))
		peerLinks = append(peerLinks, peer)
		c.servers[member] = append(c.servers[member], &server{front: client, links: []*link{client, peer}, ready: localcloud.URL(ports[i]) + "/readyz"})
	}
	for i, s := range c.servers[member] {
		name := fmt.Sprintf("etcd-%d", i+1)
		s.process = &localcloud.Process{Name: name, Path: filepath.Join(bin, "etcd"), Log: filepath.Join(dir, name+".log"),
			Args: localcloud.Etcd{Name: name, Dir: filepath.Join(dir, name), Client: localcloud.URL(ports[i]), ClientThrough: s.front.url(),
				Peer: localcloud.URL(ports[3+i]), PeerThrough: peerLinks[i].url()}.Args(strings.Join(peers, ","))}
	}
	for i := range 3 {
		front, err := newLink(localcloud.Addr(ports[6+i]))
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("controller-%d", i+1)
		c.servers[controller] = append(c.servers[controller], &server{front: front, links: []*link{front}, ready: localcloud.URL(ports[6+i]) + "/readyz",
			process: &localcloud.Process{Name: name, Path: filepath.Join(bin, "anka-controller"), Log: filepath.Join(dir, name+".log"), Env: []string{
				"ANKA_LISTEN_ADDR=" + localcloud.Addr(ports[6+i]), "ANKA_ADVERTISE_URL=" + front.url(), "ANKA_DATA_DIR=" + filepath.Join(dir, name),
				"ANKA_ETCD_ENDPOINTS=" + strings.Join(endpoints, ","), "ANKA_ANKA_REGISTRY=" + c.registry.URL,
				"ANKA_INSTANCE_TIME_OUT=2s"}}})
	}
	for _, group := range c.servers {
		for i := range group {
			if err := os.MkdirAll(filepath.Join(dir, group[i].process.Name), 0o755); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// start starts everything and returns when all of it is ready.
func (c *cluster) start(ctx context.Context) error {
	for _, kind := range []kindOfServer{member, controller} {
		for _, s := range c.servers[kind] {
			if err := s.process.Start(); err != nil {
				return err
			}
		}
		for _, s := range c.servers[kind] {
			if err := s.awaitReady(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// urls returns what callers reach the controllers by.
func (c *cluster) urls() []string { return fronts(c.servers[controller]) }

func fronts(list []*server) []string {
	var urls []string
	for _, s := range list {
		urls = append(urls, s.front.url())
	}
	return urls
}

// close ends every process and link.
func (c *cluster) close() error {
	var errs []error
	for _, kind := range []kindOfServer{controller, member} {
		for _, s := range c.servers[kind] {
			if s.process != nil {
				errs = append(errs, s.process.Kill())
			}
		}
	}
	for _, group := range c.servers {
		for _, s := range group {
			for _, l := range s.links {
				errs = append(errs, l.close())
			}
		}
	}
	c.registry.Close()
	return errors.Join(errs...)
}

// harm does f to its server and undoes it after its time, or when ctx ends.
func (c *cluster) harm(ctx context.Context, f fault) error {
	s := c.servers[f.server][f.index]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.process.Running() {
		return fmt.Errorf("%s has ended by itself; the end of its log:\n%s", s.process.Name, s.process.Tail(15))
	}
	var undo func() error
	switch f.harm {
	case kill:
		if err := s.process.Kill(); err != nil {
			return err
		}
		undo = s.process.Start
	case stop:
		if err := s.process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		undo = func() error { return s.process.Signal(syscall.SIGCONT) }
	case cut:
		for _, l := range s.links {
			l.cut()
		}
		undo = func() error {
			for _, l := range s.links {
				l.heal()
			}
			return nil
		}
	}
	sleep(ctx, f.lasts)
	return undo()
}

// awaitAll waits until every server is well, and reports one that has ended by
// itself, which none may.
func (c *cluster) awaitAll(ctx context.Context) error {
	for _, group := range c.servers {
		for _, s := range group {
			if err := s.awaitReady(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// readyLimit is for a loaded machine.
const readyLimit = 90 * time.Second

func (s *server) awaitReady(ctx context.Context) error {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	deadline := time.Now().Add(readyLimit)
	for {
		if !s.process.Running() {
			return fmt.Errorf("%s has ended by itself; the end of its log:\n%s", s.process.Name, s.process.Tail(15))
		}
		resp, err := client.Get(s.ready)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %w; the end of its log:\n%s", s.process.Name, readyLimit, err, s.process.Tail(15))
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
