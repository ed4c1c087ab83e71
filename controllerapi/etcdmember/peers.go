package etcdmember

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// introductionPath is where a host that has not decided yet says what it has. It
// is on the peer address, so that no further port must be open; once etcd owns
// that address, etcd's own /members answers for it.
const introductionPath = "/anka/v1/etcd-member"

// introduction is what an empty host says about itself.
type introduction struct {
	Empty bool     `json:"empty"`
	Self  string   `json:"self"`
	Hosts []string `json:"hosts"` // sorted
}

// PeerState is what another host was seen to be.
type PeerState int

// The states of a peer.
const (
	Unreachable PeerState = iota // did not answer
	Empty                        // answered that it has no data and the same hosts
	Disagrees                    // answered that it has no data and other hosts
	Clustered                    // runs etcd
	Stranger                     // something answered that is neither
)

// Peer is another host as it was seen.
type Peer struct {
	Host    Host
	State   PeerState
	Cluster Cluster // when Clustered
	Detail  string  // for people, when not Empty or Clustered
}

// Cluster is an etcd cluster as one member, or one data directory, tells it.
type Cluster struct {
	ID      uint64
	Members []ClusterMember
	// Confirmed says that a majority vouches for Members. A list that one member
	// gives from its own memory may be old.
	Confirmed bool
}

// ClusterMember is an entry in a cluster's list of members.
type ClusterMember struct {
	ID         uint64
	Name       string
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

func (c Cluster) byPeerURL(u string) (ClusterMember, bool) {
	i := slices.IndexFunc(c.Members, func(m ClusterMember) bool { return slices.Contains(m.PeerURLs, u) })
	if i < 0 {
		return ClusterMember{}, false
	}
	return c.Members[i], true
}

func (c Cluster) byID(id uint64) (ClusterMember, bool) {
	i := slices.IndexFunc(c.Members, func(m ClusterMember) bool { return m.ID == id })
	if i < 0 {
		return ClusterMember{}, false
	}
	return c.Members[i], true
}

func (c Cluster) clientURLs() []string {
	var urls []string
	for _, m := range c.Members {
		if !m.Learner {
			urls = append(urls, m.ClientURLs...)
		}
	}
	return urls
}

// prober asks peers what they have.
type prober struct {
	http  *http.Client
	tls   bool
	hosts []Host
}

// probeTimeout bounds one question to one peer. Peers are on the same network;
// a member that cannot answer in this time is of no use to a cluster anyway.
const probeTimeout = 2 * time.Second

func newProber(hosts []Host, tc *tls.Config) *prober {
	return &prober{
		// No kept connections: the address changes hands between us and etcd.
		http:  &http.Client{CheckRedirect: wire.NoRedirect, Timeout: probeTimeout, Transport: &http.Transport{TLSClientConfig: tc, DisableKeepAlives: true}},
		tls:   tc != nil,
		hosts: hosts,
	}
}

// all asks every host but self, at the same time.
func (p *prober) all(ctx context.Context, self Host) []Peer {
	peers := make([]Peer, 0, len(p.hosts))
	for _, h := range p.hosts {
		if h != self {
			peers = append(peers, Peer{Host: h})
		}
	}
	var wg sync.WaitGroup
	for i := range peers {
		wg.Go(func() { peers[i] = p.one(ctx, peers[i].Host) })
	}
	wg.Wait()
	return peers
}

func (p *prober) one(ctx context.Context, h Host) Peer {
	peer := Peer{Host: h}
	code, _, body, err := p.get(ctx, h.peerURL(p.tls)+introductionPath)
	if err != nil {
		peer.Detail = err.Error()
		return peer
	}
	var intro introduction
	if code == http.StatusOK && json.Unmarshal(body, &intro) == nil && intro.Empty {
		want := sortedNames(p.hosts)
		switch {
		case !slices.Equal(intro.Hosts, want):
			peer.State, peer.Detail = Disagrees, fmt.Sprintf("it was started with --cluster %v, this host with %v", intro.Hosts, want)
		case intro.Self != h.peerAddr():
			peer.State, peer.Detail = Disagrees, fmt.Sprintf("the host that answers there takes itself for %s", intro.Self)
		default:
			peer.State = Empty
		}
		return peer
	}
	c, err := p.members(ctx, h)
	if err != nil {
		peer.State, peer.Detail = Stranger, err.Error()
		return peer
	}
	peer.State, peer.Cluster = Clustered, c
	return peer
}

// members reads the list that a running etcd member gives its peers. The member
// answers from its own memory, also without a leader.
func (p *prober) members(ctx context.Context, h Host) (Cluster, error) {
	var c Cluster
	code, header, body, err := p.get(ctx, h.peerURL(p.tls)+"/members")
	if err != nil {
		return c, err
	}
	c.ID, err = strconv.ParseUint(header.Get("X-Etcd-Cluster-ID"), 16, 64)
	if code != http.StatusOK || err != nil {
		return c, fmt.Errorf("what answers there is not an etcd member (HTTP %d)", code)
	}
	c.Members, err = parseMembers(body)
	return c, err
}

// parseMembers reads etcd's JSON list of members.
func parseMembers(data []byte) ([]ClusterMember, error) {
	var list []memberJSON
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("the list of members cannot be read: %w", err)
	}
	var members []ClusterMember
	for _, m := range list {
		members = append(members, m.member())
	}
	return members, nil
}

// memberJSON is etcd's own form of a member, over the peer address and on disk.
type memberJSON struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	Learner    bool     `json:"isLearner"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientURLs"`
}

func (m memberJSON) member() ClusterMember {
	return ClusterMember{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.Learner}
}

func (p *prober) get(ctx context.Context, u string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	body, err := wire.ReadAnswer(resp, 1<<20)
	return resp.StatusCode, resp.Header, body, err
}

func sortedNames(hosts []Host) []string {
	var names []string
	for _, h := range sortedHosts(hosts) {
		names = append(names, h.peerAddr())
	}
	return names
}

// answerer tells peers that this host is empty, until etcd takes the address.
type answerer struct {
	srv  *http.Server
	done chan struct{}
}

func startAnswerer(listen string, tc *tls.Config, self Host, hosts []Host) (*answerer, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("--etcd-listen-peer: %w", err)
	}
	l = serve.Listen(l)
	if tc != nil {
		l = tls.NewListener(l, tc)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+introductionPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(introduction{Empty: true, Self: self.peerAddr(), Hosts: sortedNames(hosts)})
	})
	a := &answerer{srv: serve.New(serve.Options{Handler: mux, HeaderTime: probeTimeout}), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		_ = a.srv.Serve(l)
	}()
	return a, nil
}

// stop frees the address.
func (a *answerer) stop() {
	_ = a.srv.Close()
	<-a.done
}
