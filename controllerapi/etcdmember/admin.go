package etcdmember

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	clientsnapshot "go.etcd.io/etcd/client/v3/snapshot"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/backoff"
)

// Admin looks after a cluster: its own state is only an etcd client.
type Admin struct {
	cfg    ClientConfig
	client *clientv3.Client
}

// NewAdmin returns an Admin that reaches the cluster through any of the
// endpoints. The caller closes it.
func NewAdmin(cfg ClientConfig) (*Admin, error) {
	cc := baseClientConfig(cfg, zap.NewNop())
	cc.Endpoints, cc.Username, cc.Password = cfg.Endpoints, cfg.Username, cfg.Password
	client, err := clientv3.New(cc)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return &Admin{cfg: cfg, client: client}, nil
}

// Close ends the client.
func (a *Admin) Close() error { return a.client.Close() }

// MemberStatus is what one member says about itself.
type MemberStatus struct {
	Endpoint  string   `json:"endpoint"`
	ID        string   `json:"id,omitempty"`
	Name      string   `json:"name,omitempty"`
	Version   string   `json:"version,omitempty"`
	Leader    bool     `json:"leader"`
	Learner   bool     `json:"learner"`
	HasLeader bool     `json:"has_leader"`
	Bytes     int64    `json:"db_bytes"`
	InUse     int64    `json:"db_bytes_in_use"`
	Quota     int64    `json:"db_bytes_quota"`
	RaftIndex uint64   `json:"raft_index"`
	Errors    []string `json:"errors"`

	id uint64
}

// Members lists the cluster as a majority has it; without one, as the members
// that answer have it, and says so with confirmed false.
func (a *Admin) Members(ctx context.Context) (members []ClusterMember, confirmed bool, err error) {
	if members, err = memberList(ctx, a.client); err == nil {
		return members, true, nil
	}
	err2 := call(ctx, func(ctx context.Context) error {
		resp, err := a.client.MemberList(ctx, clientv3.WithSerializable())
		if err != nil {
			return err
		}
		for _, m := range resp.Members {
			members = append(members, ClusterMember{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner})
		}
		return nil
	})
	if err2 != nil {
		return nil, false, fmt.Errorf("no etcd member answers at %s: %w", strings.Join(a.cfg.Endpoints, ","), err2)
	}
	return members, false, nil
}

// Status asks every member of the cluster.
func (a *Admin) Status(ctx context.Context) ([]MemberStatus, error) {
	members, _, err := a.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]MemberStatus, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { out[i] = a.one(ctx, m) })
	}
	wg.Wait()
	return out, nil
}

func (a *Admin) one(ctx context.Context, m ClusterMember) MemberStatus {
	s := MemberStatus{ID: fmt.Sprintf("%x", m.ID), id: m.ID, Name: m.Name, Learner: m.Learner, Errors: []string{}}
	if len(m.ClientURLs) == 0 {
		s.Endpoint, s.Errors = strings.Join(m.PeerURLs, ","), append(s.Errors, "never started")
		return s
	}
	s.Endpoint = m.ClientURLs[0]
	err := call(ctx, func(ctx context.Context) error {
		resp, err := a.client.Status(ctx, s.Endpoint)
		if err != nil {
			return err
		}
		if resp.Header.MemberId != m.ID { // the list is older than the answer
			s.Errors = append(s.Errors, fmt.Sprintf("is gone: member %x answers in its place", resp.Header.MemberId))
			return nil
		}
		s.Learner = resp.IsLearner
		s.Version, s.Bytes, s.InUse, s.Quota, s.RaftIndex = resp.Version, resp.DbSize, resp.DbSizeInUse, resp.DbSizeQuota, resp.RaftIndex
		s.HasLeader, s.Leader = resp.Leader != 0, resp.Leader == m.ID
		s.Errors = append(s.Errors, resp.Errors...)
		return nil
	})
	switch {
	case err != nil:
		s.Errors = append(s.Errors, fmt.Sprintf("does not answer: %v", err))
	case !s.HasLeader && len(s.Errors) == 0:
		s.Errors = append(s.Errors, "has no leader")
	}
	return s
}

// Remove takes a member, named by its id or its host, out of the cluster.
func (a *Admin) Remove(ctx context.Context, which string) (ClusterMember, error) {
	members, confirmed, err := a.Members(ctx)
	if err != nil {
		return ClusterMember{}, err
	}
	if !confirmed {
		return ClusterMember{}, errors.New("the cluster has no majority: nothing can be removed; bring members back, or restore a snapshot")
	}
	var found []ClusterMember
	for _, m := range members {
		id, err := strconv.ParseUint(which, 16, 64)
		byURL := slices.ContainsFunc(m.PeerURLs, func(u string) bool { return strings.Contains(u, "://"+which+":") || strings.HasSuffix(u, "://"+which) })
		if err == nil && id == m.ID || m.Name == which || byURL {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		return ClusterMember{}, fmt.Errorf("%q names %d members of the cluster; see `anka-controller etcd members`", which, len(found))
	}
	return found[0], remove(ctx, a.client, found[0].ID)
}

// remove takes a member out of the cluster. etcd refuses while a member that
// stays has been connected for less than 5 s (HealthInterval in its server):
// that passes by itself, so it is asked again for some times that long: members
// of a machine that stands still lose their connections.
func remove(ctx context.Context, client *clientv3.Client, id uint64) error {
	patience, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := call(ctx, func(ctx context.Context) error { _, err := client.MemberRemove(ctx, id); return err })
		if !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		if !backoff.Sleep(patience, 200*time.Millisecond) {
			return fmt.Errorf("not removed, because the members that stay are not all connected: %w", err)
		}
	}
}

// Snapshot writes the whole state to a new file and checks it. A half-written
// file never has the final name.
func (a *Admin) Snapshot(ctx context.Context, file string) (snapshot.Status, error) {
	if _, err := os.Stat(file); err == nil {
		return snapshot.Status{}, fmt.Errorf("%s exists; name a new file", file)
	}
	statuses, err := a.Status(ctx)
	if err != nil {
		return snapshot.Status{}, err
	}
	var errs []error
	for _, s := range statuses {
		if !s.HasLeader || s.Learner {
			continue // it may lag behind
		}
		cc := baseClientConfig(a.cfg, zap.NewNop())
		cc.Endpoints, cc.Username, cc.Password = []string{s.Endpoint}, a.cfg.Username, a.cfg.Password
		if _, err := clientsnapshot.SaveWithVersion(ctx, zap.NewNop(), cc, file); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Endpoint, err))
			continue
		}
		return snapshot.NewV3(zap.NewNop()).Status(file)
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("no member has a leader; with a majority lost, restore from the database file of one: see `anka-controller etcd restore --help`"))
	}
	return snapshot.Status{}, errors.Join(errs...)
}

// Defrag rewrites every member's database without its holes, one after another
// and the leader last, each of which stalls meanwhile. Afterwards it lifts the
// alarms of databases that were full and are not any more.
func (a *Admin) Defrag(ctx context.Context, tell func(string)) error {
	statuses, err := a.Status(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(statuses, func(x, y MemberStatus) int { return boolInt(x.Leader) - boolInt(y.Leader) })
	for _, s := range statuses {
		if s.Version == "" {
			return fmt.Errorf("%s %s", s.Endpoint, strings.Join(s.Errors, ", "))
		}
		began := time.Now()
		if _, err := a.client.Defragment(ctx, s.Endpoint); err != nil {
			return fmt.Errorf("%s: %w", s.Endpoint, err)
		}
		after := a.one(ctx, ClusterMember{ID: s.id, ClientURLs: []string{s.Endpoint}})
		tell(fmt.Sprintf("%s: %d MB before, %d MB now, in %s", s.Endpoint, s.Bytes>>20, after.Bytes>>20, time.Since(began).Round(time.Millisecond)))
	}
	return a.liftAlarms(ctx, tell)
}

func (a *Admin) liftAlarms(ctx context.Context, tell func(string)) error {
	alarms, err := a.client.AlarmList(ctx)
	if err != nil {
		return err
	}
	statuses, err := a.Status(ctx)
	if err != nil {
		return err
	}
	for _, al := range alarms.Alarms {
		i := slices.IndexFunc(statuses, func(s MemberStatus) bool { return s.id == al.MemberID })
		if al.Alarm != pb.AlarmType_NOSPACE || i < 0 {
			tell(fmt.Sprintf("alarm %s of member %x stays: a person has to look at it", al.Alarm, al.MemberID))
			continue
		}
		if s := statuses[i]; s.Quota > 0 && s.Bytes > s.Quota*9/10 {
			tell(fmt.Sprintf("alarm %s of %s stays: %d MB of %d MB are used; raise --etcd-quota-mb", al.Alarm, s.Endpoint, s.Bytes>>20, s.Quota>>20))
			continue
		}
		if _, err := a.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(al)); err != nil {
			return fmt.Errorf("lift the alarm %s: %w", al.Alarm, err)
		}
		tell(fmt.Sprintf("alarm %s of %s lifted", al.Alarm, statuses[i].Endpoint))
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// revisionBump lets a restored state count on from far above what any client can
// have seen: a revision that ran backwards would look like no news.
const revisionBump = 1_000_000_000

// Restore makes a data directory with the state of a snapshot file, as a new
// cluster of which this host is the only member; the other hosts join it when
// they are started empty. What was in the directory is moved aside, and where to
// is returned. bare accepts a database file copied from a data directory, which
// carries no checksum.
func Restore(ctx context.Context, cfg Config, file string, bare bool) (aside string, err error) {
	if err := cfg.Validate(); err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", err
	}
	self := Host{Name: "127.0.0.1", PeerPort: DefaultPeerPort}
	if len(cfg.Cluster) > 0 {
		if self, err = findSelf(ctx, cfg.Cluster, cfg.Self); err != nil {
			return "", err
		}
	}
	fresh := cfg.DataDir + ".restoring"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	peer := self.peerURL(cfg.TLS.Enabled())
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, SkipHashCheck: bare, OutputDataDir: fresh,
		Name: self.String(), PeerURLs: []string{peer}, InitialCluster: self.String() + "=" + peer,
		InitialClusterToken: "anka-" + rand.Text(),
		RevisionBump:        revisionBump, MarkCompacted: true,
	})
	if err != nil {
		_ = os.RemoveAll(fresh)
		return "", fmt.Errorf("restore %s: %w", file, err)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		aside = cfg.DataDir + ".before-" + time.Now().UTC().Format("20060102T150405.000")
		if err := os.Rename(cfg.DataDir, aside); err != nil {
			return "", err
		}
	} else if err := os.MkdirAll(filepath.Dir(cfg.DataDir), 0o700); err != nil {
		return "", err
	}
	return aside, os.Rename(fresh, cfg.DataDir)
}
