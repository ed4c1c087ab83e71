package etcdmember

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func newTestAdmin(t *testing.T, endpoints []string) *Admin {
	t.Helper()
	a, err := NewAdmin(ClientConfig{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// TestRestoredSnapshotGrowsIntoAClusterAgain walks the whole way that the help
// of restore describes, and checks that a revision never runs backwards.
func TestRestoredSnapshotGrowsIntoAClusterAgain(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	id := c.settled(3)
	for i := range 20 {
		c.put(fmt.Sprintf("key%d", i), "before the snapshot")
	}
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	file := filepath.Join(t.TempDir(), "cloud.db")
	status, err := newTestAdmin(t, c.endpoints()).Snapshot(ctx, file)
	if err != nil || status.TotalKey != 20 {
		t.Fatalf("snapshot: %+v, %v, want 20 keys", status, err)
	}
	if _, err := newTestAdmin(t, c.endpoints()).Snapshot(ctx, file); err == nil {
		t.Error("a snapshot overwrote a file")
	}
	c.put("key0", "after the snapshot")
	last := c.revision(ctx)
	for _, m := range c.members {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}

	aside, err := Restore(ctx, c.configs[1], file, false)
	if err != nil || aside == "" {
		t.Fatalf("restore: %q, %v", aside, err)
	}
	if _, err := os.Stat(memberDir(aside)); err != nil {
		t.Errorf("the old data were not kept: %v", err)
	}
	c.wipe(0)
	c.wipe(2)
	c.startAll()
	if got := c.settled(3); got == id {
		t.Errorf("the restored cluster has the id %x of the old one: old members would mix in", got)
	}
	for i := range c.members {
		c.check(i, "key0", "before the snapshot")
		c.check(i, "key19", "before the snapshot")
	}
	if rev := c.revision(ctx); rev <= last {
		t.Errorf("revision is %d after the restore and was %d before it", rev, last)
	}
}

func (c *testCluster) revision(ctx context.Context) int64 {
	c.t.Helper()
	resp, err := patientGet(ctx, connect(c.t, c.endpoints()), "any")
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.Header.Revision
}

func TestDatabaseFileOfALostClusterRestores(t *testing.T) {
	t.Parallel()
	cfg := aloneConfig(t)
	m := runMember(t, cfg)
	m.waitReady(t)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	if _, err := connect(t, m.Endpoints()).Put(ctx, "key", "value"); err != nil {
		t.Fatal(err)
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	other := aloneConfig(t)
	if _, err := Restore(ctx, other, dbFile(cfg.DataDir), false); err == nil {
		t.Fatal("a file without a checksum was taken for a snapshot")
	}
	if _, err := os.Stat(other.DataDir); err == nil {
		t.Fatal("a failed restore left a data directory")
	}
	if _, err := Restore(ctx, other, dbFile(cfg.DataDir), true); err != nil {
		t.Fatalf("restore --bare: %v", err)
	}
	m = runMember(t, other)
	m.waitReady(t)
	resp, err := connect(t, m.Endpoints()).Get(ctx, "key")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("after the restore: %v, %v", resp, err)
	}
}

// TestFullDatabaseGoesOnAfterDefrag is F9: the alarm of a full database is told,
// and lifted once there is room, without a restart.
func TestFullDatabaseGoesOnAfterDefrag(t *testing.T) {
	t.Parallel()
	cfg := aloneConfig(t)
	cfg.QuotaBytes = 16 << 20
	_, clients := testHosts(t, 1)
	cfg.ClientListen = clients[0] // the address is told to others, so it must be a real one
	m := runMember(t, cfg)
	m.waitReady(t)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	client, admin := connect(t, m.Endpoints()), newTestAdmin(t, m.Endpoints())
	value := strings.Repeat("x", 1<<20)
	var err error
	for range 64 {
		if _, err = client.Put(ctx, "big", value); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "space exceeded") {
		t.Fatalf("got %v, want a full database", err)
	}
	statuses, err := admin.Status(ctx)
	if err != nil || len(statuses) != 1 || !strings.Contains(strings.Join(statuses[0].Errors, " "), "NOSPACE") {
		t.Fatalf("status of a full database: %+v, %v", statuses, err)
	}

	head, err := client.Get(ctx, "big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(ctx, head.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	var told []string
	if err := admin.Defrag(ctx, func(s string) { told = append(told, s) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(told, "\n"), "lifted") {
		t.Fatalf("defrag told %q, want that the alarm was lifted", told)
	}
	if _, err := client.Put(ctx, "big", value); err != nil {
		t.Fatalf("put after the alarm was lifted: %v", err)
	}
}

func TestRemoveNamesAMemberByHost(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	c.settled(3)
	if err := c.members[2].stop(); err != nil {
		t.Fatal(err)
	}
	c.members[2] = nil
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	admin := newTestAdmin(t, c.endpoints())
	if _, err := admin.Remove(ctx, "10.99.99.99"); err == nil {
		t.Error("an unknown host was removed")
	}
	if _, err := admin.Remove(ctx, c.configs[2].Cluster[2].String()); err != nil {
		t.Fatalf("remove: %v", err)
	}
	c.settled(2)
}

// A member whose disk was lost is replaced by another at the same address. A list
// from before must not make the old one look well: its successor cannot vote yet.
func TestStatusTellsAReplacedMemberFromItsSuccessor(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 1)
	c.startAll()
	c.settled(1)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	admin := newTestAdmin(t, c.endpoints())
	members, _, err := admin.Members(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s := admin.one(ctx, members[0]); len(s.Errors) != 0 || !s.Leader {
		t.Errorf("the member: got %+v, want it well", s)
	}
	replaced := members[0]
	replaced.ID++
	if s := admin.one(ctx, replaced); len(s.Errors) != 1 || s.HasLeader {
		t.Errorf("the member it replaced: got %+v, want one error", s)
	}
}
