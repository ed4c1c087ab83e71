package cluster

import (
	"cmp"
	"context"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// peer is another host of the registry.
type peer struct {
	store, name, url string
	http             *http.Client
	blobs            *transfer.Client
	live             bool
}

// peers makes clients of hosts, and remembers which failed of late.
type peers struct {
	http *http.Client
	log  *zap.Logger

	mu      sync.Mutex
	clients map[string]*transfer.Client // by URL; guarded by mu
	failed  map[string]time.Time        // by store: left alone until then; guarded by mu
}

// suspectFor is how long a host is not asked to take a copy after it failed to.
const suspectFor = 10 * time.Second

func (p *peers) client(url string) (*transfer.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clients[url]; c != nil {
		return c, nil
	}
	c, err := transfer.New(transfer.Config{
		Base: url, HTTP: p.http, Log: p.log, Attempts: 2, MaxBackoff: time.Second, Idle: 5 * time.Second,
		Authorize: func(req *http.Request) {
			req.Header.Set(registryapi.HeaderPeer, registryapi.PeerCopy)
			req.Header.Set(registryapi.HeaderNoPull, "copy")
		},
	})
	if err == nil {
		p.clients[url] = c
	}
	return c, err
}

func (p *peers) suspect(store string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed[store] = time.Now().Add(suspectFor)
}

func (p *peers) suspected(store string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.failed[store])
}

// others returns the other hosts, those that are live first. Each may have
// died since.
func (c *Cluster) others() []*peer {
	var all []*peer
	c.cat.read(func(v *view) {
		for store, h := range v.hosts {
			if store != c.self {
				all = append(all, &peer{store: store, name: h.Name, url: h.URL, http: c.peers.http, live: v.live[store]})
			}
		}
	})
	all = slices.DeleteFunc(all, func(p *peer) bool {
		var err error
		p.blobs, err = c.peers.client(p.url)
		return err != nil // a record of no use
	})
	slices.SortFunc(all, func(a, b *peer) int {
		if a.live != b.live {
			if a.live {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.store, b.store)
	})
	return all
}

func live(all []*peer) []*peer {
	return slices.DeleteFunc(slices.Clone(all), func(p *peer) bool { return !p.live })
}

func clientsOf(all []*peer) []*transfer.Client {
	var cs []*transfer.Client
	for _, p := range all {
		cs = append(cs, p.blobs)
	}
	return cs
}

// homes returns the hosts that take the first copies of a repository's content,
// best first, this one among them as "": every live host chooses the same. So
// the blobs of one push come together on the same hosts, whichever hosts its
// requests went to.
func homes(repo, self string, others []*peer, n int) []string {
	weight := func(store string) uint64 {
		h := fnv.New64a()
		_, _ = io.WriteString(h, repo+"\x00"+store)
		x := h.Sum64() // FNV alone hardly moves the high bits of like inputs
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		return x ^ x>>33
	}
	stores := []string{self}
	for _, p := range others {
		stores = append(stores, p.store)
	}
	slices.SortFunc(stores, func(a, b string) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a, b))
	})
	return stores[:min(n, len(stores))]
}

// call sends one request of ours to a host and decodes its answer.
func call[T any](ctx context.Context, p *peer, method, path string, in any) (T, error) {
	client := wire.Client{Base: p.url, HTTP: p.http, Server: p.url, MaxAnswer: peerBody.Bytes, Plain: true}
	return wire.Call[T](ctx, &client, wire.Request{Method: method, Path: path, Body: in, Header: http.Header{registryapi.HeaderPeer: {registryapi.PeerCopy}}})
}

// announce keeps this host in the list of hosts until ctx ends.
func (c *Cluster) announce(ctx context.Context) {
	for backoff := etcdkit.MinBackoff; ctx.Err() == nil; backoff = etcdkit.SleepBackoff(ctx, backoff) {
		err := c.announceOnce(ctx, func() { backoff = etcdkit.MinBackoff })
		if ctx.Err() == nil {
			c.log.Warn("this host's place in the cluster's list is made anew", zap.Error(err))
		}
	}
}

// announceOnce announces under one lease until that is lost.
func (c *Cluster) announceOnce(ctx context.Context, well func()) error {
	lease, err := c.cat.kit.Grant(ctx, c.cfg.Lease)
	if err != nil {
		return err
	}
	ops := append(c.place(), clientv3.OpPut(liveKey(c.self), "", clientv3.WithLease(lease)))
	if err := c.cat.put(ctx, ops...); err != nil {
		return err
	}
	well()
	err = c.cat.kit.KeepLease(ctx, lease, c.cfg.Lease)
	if ctx.Err() != nil { // as asked: others need not wait for the lease to end
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = c.cat.etcd.Revoke(leave, lease) // it ends by itself
	}
	return err
}

// place writes where this host is, and removes what is known of it with another
// directory: that disk is gone, and so are its copies.
func (c *Cluster) place() []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpPut(hostKey(c.self), encode(hostRecord{Name: c.cfg.Name, URL: c.cfg.URL}))}
	c.cat.read(func(v *view) {
		for store, h := range v.hosts {
			if store == c.self || h.URL != c.cfg.URL {
				continue
			}
			ops = append(ops, clientv3.OpDelete(hostKey(store)), clientv3.OpDelete(liveKey(store)))
			for repo, r := range v.repos {
				for d, stores := range r.copies {
					if stores[store] {
						ops = append(ops, clientv3.OpDelete(copyKey(repo, d, store)))
					}
				}
			}
		}
	})
	return ops
}
