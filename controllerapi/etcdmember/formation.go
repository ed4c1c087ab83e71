package etcdmember

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/backoff"
)

// How often a waiting host asks again, and when and how often it says so in the
// log: an election is no news.
const (
	askEvery   = 500 * time.Millisecond
	tellAfter  = 3 * time.Second
	tellEvery  = 10 * time.Second
	callBudget = 5 * time.Second // one call to etcd while the cluster changes
)

// formation takes a host from what it has to a member that votes.
type formation struct {
	cfg   Config
	self  Host
	tls   *tls.Config
	log   *zap.Logger
	quiet *quietLog // for etcd
	probe *prober

	waiting time.Time // since when
	told    string    // the last reason that was logged
	toldAt  time.Time
}

// start returns a started server. It asks until it may.
func (f *formation) start(ctx context.Context) (*embed.Etcd, error) {
	local, err := readLocal(f.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if local.HasData {
		return f.startWithData(ctx, local)
	}
	if err := clearUnfinished(f.cfg.DataDir); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	if len(f.cfg.Cluster) <= 1 {
		return f.launch(ctx, func(ec *embed.Config) { ec.InitialCluster = ec.InitialClusterFromName(ec.Name) })
	}
	return f.startEmpty(ctx)
}

func (f *formation) startWithData(ctx context.Context, local Local) (*embed.Etcd, error) {
	peers := f.probe.all(ctx, f.self)
	for i := range peers {
		if c := &peers[i].Cluster; c.ID == local.Cluster.ID {
			if _, ok := c.byID(local.MemberID); !ok {
				f.confirm(ctx, c)
			}
		}
	}
	d := Decide(local, f.self, f.cfg.Cluster, peers, f.tls != nil)
	if d.Action == Refuse {
		return nil, fmt.Errorf("%w: %s", ErrRefused, d.Reason)
	}
	f.log.Info("etcd member starts", zap.String("reason", d.Reason))
	return f.launch(ctx, func(ec *embed.Config) { ec.InitialCluster = ec.InitialClusterFromName(ec.Name) })
}

// startEmpty answers the peers' questions and asks its own until Decide settles
// it.
func (f *formation) startEmpty(ctx context.Context) (*embed.Etcd, error) {
	answers, err := startAnswerer(f.cfg.PeerListen, f.tls, f.self, f.cfg.Cluster)
	if err != nil {
		return nil, err
	}
	defer func() { answers.stop() }()
	for {
		d := Decide(Local{Dir: f.cfg.DataDir}, f.self, f.cfg.Cluster, f.probe.all(ctx, f.self), f.tls != nil)
		switch d.Action {
		case Refuse:
			return nil, fmt.Errorf("%w: %s", ErrRefused, d.Reason)
		case Bootstrap:
			f.log.Info("beginning a new etcd cluster", zap.String("reason", d.Reason))
			answers.stop()
			return f.launch(ctx, func(ec *embed.Config) { ec.InitialCluster = ec.InitialClusterFromName(ec.Name) })
		case Join:
			initial, err := f.enlist(ctx, d.Via)
			if err != nil {
				f.tell("joining the etcd cluster", fmt.Sprintf("%s: %v", d.Reason, err))
				break
			}
			answers.stop()
			etcd, err := f.launch(ctx, func(ec *embed.Config) { ec.ClusterState, ec.InitialCluster = embed.ClusterStateFlagExisting, initial })
			if err == nil {
				f.log.Info("joined the etcd cluster as a learner", zap.String("cluster_id", etcd.Server.Cluster().ID().String()))
				return etcd, nil
			}
			// The list of members changed between our reading it and our start:
			// another host joined at the same time. Nothing was written that binds us.
			f.tell("joining the etcd cluster", err.Error())
			if err := clearUnfinished(f.cfg.DataDir); err != nil {
				return nil, err
			}
			if answers, err = startAnswerer(f.cfg.PeerListen, f.tls, f.self, f.cfg.Cluster); err != nil {
				return nil, err
			}
		case Wait, Start:
			f.tell("waiting for the etcd cluster", d.Reason)
		}
		if !backoff.Sleep(ctx, askEvery+rand.N(askEvery)) {
			return nil, ctx.Err()
		}
	}
}

// enlist makes this host a new learner of the cluster and returns etcd's list of
// initial members. An entry with this host's address is removed first: whoever
// has no log must not act under an identity that may have voted.
func (f *formation) enlist(ctx context.Context, via []Cluster) (string, error) {
	client, err := f.client(via)
	if err != nil {
		return "", err
	}
	defer client.Close()
	members, err := memberList(ctx, client)
	if err != nil {
		return "", fmt.Errorf("its members do not agree on a leader, a majority may be missing (if a majority of the disks is lost: `anka-controller etcd restore --help`): %w", err)
	}
	own := f.self.peerURL(f.tls != nil)
	if old, ok := (Cluster{Members: members}).byPeerURL(own); ok {
		f.log.Warn("replacing the old etcd member of this host, whose data are gone", zap.String("member_id", fmt.Sprintf("%x", old.ID)))
		if err := call(ctx, func(ctx context.Context) error { _, err := client.MemberRemove(ctx, old.ID); return err }); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
			return "", fmt.Errorf("remove the old member of this host: %w", err)
		}
	}
	if err := call(ctx, func(ctx context.Context) error {
		resp, err := client.MemberAddAsLearner(ctx, []string{own})
		if err == nil {
			members = nil
			for _, m := range resp.Members {
				members = append(members, ClusterMember{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs})
			}
		}
		return err
	}); err != nil {
		return "", fmt.Errorf("add this host: %w", err)
	}
	var initial []string
	for _, m := range members {
		name := m.Name
		switch {
		case slices.Contains(m.PeerURLs, own):
			name = f.self.String()
		case name == "": // enlisted, not started yet; any unique name will do
			name = fmt.Sprintf("%x", m.ID)
		}
		for _, u := range m.PeerURLs {
			initial = append(initial, name+"="+u)
		}
	}
	return strings.Join(initial, ","), nil
}

// launch starts the embedded server. It blocks for as long as etcd needs to read
// its data, not until there is a leader.
func (f *formation) launch(ctx context.Context, how func(*embed.Config)) (*embed.Etcd, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	ec, err := embedConfig(f.cfg, f.self, f.quiet.Logger)
	if err != nil {
		return nil, err
	}
	how(ec)
	etcd, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("start the etcd member (--etcd-listen-client %s, --etcd-listen-peer %s): %w", f.cfg.ClientListen, f.cfg.PeerListen, err)
	}
	return etcd, nil
}

// settle returns when the member votes, answers, and a majority of the hosts
// votes with it.
func (f *formation) settle(ctx context.Context, etcd *embed.Etcd, clientURL string) error {
	for {
		reason, err := f.advance(ctx, etcd, clientURL)
		if err != nil || reason == "" {
			return err
		}
		f.tell("the etcd cluster is not complete", reason)
		if !backoff.Sleep(ctx, askEvery) {
			return ctx.Err()
		}
	}
}

// advance does the next step towards a settled member and returns what is still
// missing, or "".
func (f *formation) advance(ctx context.Context, etcd *embed.Etcd, clientURL string) (missing string, err error) {
	if etcd.Server.Leader() == 0 {
		if err := f.checkOthers(ctx, etcd); err != nil {
			return "", err
		}
		return "there is no leader: a majority of the members is missing", nil
	}
	if etcd.Server.IsLearner() {
		return f.promote(ctx, etcd)
	}
	client, err := f.dial([]string{clientURL})
	if err != nil {
		return "", err
	}
	defer client.Close()
	members, err := memberList(ctx, client)
	if err != nil {
		return err.Error(), nil
	}
	if len(f.cfg.Cluster) == 0 {
		return "", nil
	}
	if err := f.tellAddress(ctx, etcd, client, members); err != nil {
		return err.Error(), nil
	}
	voters := 0
	for _, m := range members {
		if !m.Learner {
			voters++
		}
	}
	if need := len(f.cfg.Cluster)/2 + 1; voters < need {
		if err := f.checkOthers(ctx, etcd); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d of %d hosts vote, %d are needed", voters, len(f.cfg.Cluster), need), nil
	}
	return "", nil
}

// checkOthers looks again whether the other hosts have turned out to run another
// cluster since this member was started.
func (f *formation) checkOthers(ctx context.Context, etcd *embed.Etcd) error {
	if len(f.cfg.Cluster) <= 1 {
		return nil
	}
	local := Local{HasData: true, Dir: f.cfg.DataDir, MemberID: uint64(etcd.Server.MemberID())}
	local.Cluster.ID = uint64(etcd.Server.Cluster().ID())
	for _, m := range etcd.Server.Cluster().Members() {
		local.Cluster.Members = append(local.Cluster.Members, ClusterMember{ID: uint64(m.ID), PeerURLs: m.PeerURLs})
	}
	if d := Decide(local, f.self, f.cfg.Cluster, f.probe.all(ctx, f.self), f.tls != nil); d.Action == Refuse {
		return fmt.Errorf("%w: %s", ErrRefused, d.Reason)
	}
	return nil
}

// promote asks the voting members to let this learner vote.
func (f *formation) promote(ctx context.Context, etcd *embed.Etcd) (string, error) {
	var via Cluster
	for _, m := range etcd.Server.Cluster().Members() {
		via.Members = append(via.Members, ClusterMember{ID: uint64(m.ID), Learner: m.IsLearner, ClientURLs: m.ClientURLs})
	}
	client, err := f.client([]Cluster{via})
	if err != nil {
		return err.Error(), nil
	}
	defer client.Close()
	id := uint64(etcd.Server.MemberID())
	err = call(ctx, func(ctx context.Context) error { _, err := client.MemberPromote(ctx, id); return err })
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return fmt.Sprintf("this member is still catching up: %v", err), nil
	}
	f.log.Info("the etcd member may vote now")
	return "waiting for the promotion to arrive", nil
}

// tellAddress corrects this member's peer address: a member that ran alone knows
// itself by loopback, where no other host finds it.
func (f *formation) tellAddress(ctx context.Context, etcd *embed.Etcd, client *clientv3.Client, members []ClusterMember) error {
	own := f.self.peerURL(f.tls != nil)
	me, ok := (Cluster{Members: members}).byID(uint64(etcd.Server.MemberID()))
	if !ok || slices.Contains(me.PeerURLs, own) {
		return nil
	}
	f.log.Info("telling the etcd cluster this host's address", zap.String("peer_url", own))
	return call(ctx, func(ctx context.Context) error { _, err := client.MemberUpdate(ctx, me.ID, []string{own}); return err })
}

// keep does what a running member needs from time to time.
func (f *formation) keep(ctx context.Context, etcd *embed.Etcd, clientURL string) {
	if f.cfg.DefragInterval == 0 {
		return
	}
	for backoff.Sleep(ctx, f.cfg.DefragInterval) {
		began := time.Now()
		if err := etcd.Server.Backend().Defrag(); err != nil {
			f.log.Error("defragmentation failed", zap.Error(err))
			continue
		}
		f.log.Info("etcd database defragmented", zap.Duration("duration", time.Since(began)), zap.Int64("bytes", etcd.Server.Backend().Size()))
	}
}

// confirm replaces c's list by one that a majority vouches for, if it can.
func (f *formation) confirm(ctx context.Context, c *Cluster) {
	client, err := f.client([]Cluster{*c})
	if err != nil {
		return
	}
	defer client.Close()
	if members, err := memberList(ctx, client); err == nil {
		c.Members, c.Confirmed = members, true
	}
}

func (f *formation) client(via []Cluster) (*clientv3.Client, error) {
	var urls []string
	for _, c := range via {
		for _, u := range c.clientURLs() {
			if !slices.Contains(urls, u) {
				urls = append(urls, u)
			}
		}
	}
	if len(urls) == 0 {
		return nil, errors.New("no member of the cluster has told its client address yet")
	}
	return f.dial(urls)
}

func (f *formation) dial(urls []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: urls, TLS: f.tls, DialTimeout: callBudget, Logger: f.quiet.Logger})
}

// tell logs a reason for waiting, when it is new and every now and then.
func (f *formation) tell(message, reason string) {
	now := time.Now()
	if f.waiting.IsZero() {
		f.waiting = now
	}
	if now.Sub(f.waiting) < tellAfter || reason == f.told && now.Sub(f.toldAt) < tellEvery {
		return
	}
	f.told, f.toldAt = reason, now
	f.log.Warn(message, zap.String("reason", reason))
}

// memberList reads the list of members as a majority has it.
func memberList(ctx context.Context, client *clientv3.Client) ([]ClusterMember, error) {
	var members []ClusterMember
	err := call(ctx, func(ctx context.Context) error {
		resp, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range resp.Members {
			members = append(members, ClusterMember{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner})
		}
		return nil
	})
	return members, err
}

func call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callBudget)
	defer cancel()
	return do(ctx)
}
