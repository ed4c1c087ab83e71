package etcdkit

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcd starts a member of etcd and returns a client of it.
func etcd(t *testing.T) *clientv3.Client {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = t.TempDir(), "fatal", true
	any := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = any, any
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Clients[0].Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestTxn(t *testing.T) {
	t.Parallel()
	c := NewClient(etcd(t), 10*time.Second, "idem/")
	ctx := t.Context()
	put := func(must func(*Txn), key string) error {
		txn := new(Txn)
		must(txn)
		txn.Put(key, "val", 0)
		_, err := c.Commit(ctx, txn)
		return err
	}
	absent := func(key string) func(*Txn) { return func(txn *Txn) { txn.Must(key, 0) } }
	if err := put(absent("a/1"), "a/1"); err != nil {
		t.Fatal(err)
	}
	kv, err := c.Get(ctx, "a/1")
	if err != nil || string(kv.Value) != `"val"` {
		t.Fatalf("%v: %v", kv, err)
	}
	for _, tc := range []struct {
		name string
		must func(*Txn)
		want error
	}{
		{"absent, but it is there", absent("a/1"), ErrConflict},
		{"at its revision", func(txn *Txn) { txn.Must("a/1", kv.ModRevision) }, nil},
		{"at a revision of before", func(txn *Txn) { txn.Must("a/1", kv.ModRevision-1) }, ErrConflict},
		{"there", func(txn *Txn) { txn.MustExist("a/1") }, nil},
		{"there, but it is absent", func(txn *Txn) { txn.MustExist("a/2") }, ErrConflict},
		{"settled", func(txn *Txn) { txn.MustBeSettled("a/", kv.ModRevision) }, nil},
		{"settled, but it was written since", func(txn *Txn) { txn.MustBeSettled("a/", kv.ModRevision-1) }, ErrConflict},
		{"settled, being empty", func(txn *Txn) { txn.MustBeSettled("c/", 0) }, nil},
	} {
		if err := put(tc.must, "b"); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if kv, err := c.Get(ctx, "none"); kv != nil || err != nil {
		t.Errorf("a key that is not there: %v, %v", kv, err)
	}
}

func TestIdempotencyKeyGivesTheFirstAnswer(t *testing.T) {
	t.Parallel()
	c := NewClient(etcd(t), 10*time.Second, "idem/")
	encode := func(answer any) json.RawMessage {
		data, err := json.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		return data
	}
	request := func(key, body string) context.Context {
		ctx, _ := WithIdem(t.Context(), key, []byte(body), encode)
		return ctx
	}
	write := func(ctx context.Context, answer string) error {
		txn := &Txn{Answer: answer}
		txn.Put("written", answer, 0)
		_, err := c.Commit(ctx, txn)
		return err
	}
	if err := write(request("k", "body"), "first"); err != nil {
		t.Fatal(err)
	}
	var replay *Replay
	if err := write(request("k", "body"), "second"); !errors.As(err, &replay) || string(replay.Answer) != `"first"` {
		t.Errorf("repeated: %v, want the first answer", err)
	}
	if err := c.Settle(request("k", "body"), "third"); !errors.As(err, &replay) || string(replay.Answer) != `"first"` {
		t.Errorf("repeated without a change: %v, want the first answer", err)
	}
	if err := write(request("k", "other body"), "fourth"); !errors.Is(err, ErrKeyReused) {
		t.Errorf("used for another request: %v, want ErrKeyReused", err)
	}
	if kv, _ := c.Get(t.Context(), "written"); string(kv.Value) != `"first"` || kv.Version != 1 {
		t.Errorf("written are %s, %d times", kv.Value, kv.Version)
	}
	// What was planned is found by the repeat, and the answer takes its place.
	ctx := request("planned", "body")
	plan := "one"
	if again, err := Plan(ctx, c, &plan); again || err != nil {
		t.Fatalf("planned before: %v, %v", again, err)
	}
	repeat, found := request("planned", "body"), "two"
	if again, err := Plan(repeat, c, &found); !again || err != nil || found != "one" {
		t.Errorf("the repeat finds %q, %v, %v", found, again, err)
	}
	if err := write(repeat, "done"); err != nil {
		t.Fatal(err)
	}
	if err := write(ctx, "late"); !errors.As(err, &replay) || string(replay.Answer) != `"done"` {
		t.Errorf("the first, late: %v, want the repeat's answer", err)
	}
	// A lease that was revoked costs the caller a new decision and nothing else.
	if _, err := c.Etcd.Revoke(t.Context(), c.idem); err != nil {
		t.Fatal(err)
	}
	lost := request("lost", "body")
	if err := write(lost, "again"); !errors.Is(err, ErrConflict) {
		t.Errorf("under a lease that is gone: %v, want ErrConflict", err)
	}
	if err := write(lost, "again"); err != nil {
		t.Errorf("decided anew: %v", err)
	}
}

// words is the Model of the tests: texts by key.
type words struct{ changed chan struct{} }

func (words) New() map[string]string { return make(map[string]string) }

func (words) Apply(v map[string]string, ev *clientv3.Event, _ *int) error {
	switch {
	case ev.Type == clientv3.EventTypeDelete:
		delete(v, string(ev.Kv.Key))
	case string(ev.Kv.Value) == "undecodable":
		return errors.New("not a word")
	default:
		v[string(ev.Kv.Key)] = string(ev.Kv.Value)
	}
	return nil
}

func (words) Loaded(map[string]string, *int) error                     { return nil }
func (words) Replace(_, _ map[string]string, _ uint64, _ bool, _ *int) {}
func (words) Advance(v map[string]string, _ int64, _ *int)             { v["advanced"] = "yes" }
func (w words) Changed(*int)                                           { signal(w.changed) }

func cache(t *testing.T, client *clientv3.Client) *Cache[map[string]string, int] {
	c := NewCache(CacheConfig{Prefix: "w/", Anchor: "w/id", Wait: 10 * time.Second, LoadWait: 10 * time.Second, Lag: time.Second, MaxLag: time.Second},
		NewClient(client, 10*time.Second, "idem/"), words{make(chan struct{}, 1)}, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func read(c *Cache[map[string]string, int], key string) (val string) {
	c.Read(func(v map[string]string) { val = v[key] })
	return val
}

func put(t *testing.T, client *clientv3.Client, key, val string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, val); err != nil {
		t.Fatal(err)
	}
}

func TestFreshShowsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	client := etcd(t)
	put(t, client, "w/id", "1")
	for k := range 2*pageSize + 1 { // several pages
		put(t, client, "w/page/"+string(rune('a'+k%26))+time.Duration(k).String(), "x")
	}
	c := cache(t, client)
	<-c.Loaded()
	loaded := 0
	c.Read(func(v map[string]string) { loaded = len(v) })
	if loaded != 2*pageSize+3 { // with the anchor, and what Advance notes
		t.Errorf("%d words are loaded, want %d", loaded, 2*pageSize+3)
	}
	put(t, client, "w/a", "undecodable")
	for _, val := range []string{"one", "two"} {
		put(t, client, "w/a", val)
		if err := c.Fresh(t.Context()); err != nil || read(c, "w/a") != val {
			t.Errorf("%q, %v; want %s", read(c, "w/a"), err, val)
		}
	}
	if p := c.Proof(); p > 10*time.Second {
		t.Errorf("proven %v ago", p)
	}
	put(t, client, "elsewhere", "1") // a revision of which the watch tells nothing
	if err := c.Fresh(t.Context()); err != nil {
		t.Errorf("after a write elsewhere: %v", err)
	}
	if _, err := client.Delete(t.Context(), "w/a"); err != nil {
		t.Fatal(err)
	}
	if err := c.Fresh(t.Context()); err != nil || read(c, "w/a") != "" {
		t.Errorf("%q, %v; want nothing", read(c, "w/a"), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.WaitRevision(ctx, c.Revision()+1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a revision that is not there: %v, want ErrUnavailable", err)
	}
}

// Another anchor means other data: nothing that was known counts, and all is
// loaded anew.
func TestOtherDataIsLoadedAnew(t *testing.T) {
	t.Parallel()
	client := etcd(t)
	put(t, client, "w/id", "1")
	put(t, client, "w/a", "one")
	c := cache(t, client)
	<-c.Loaded()
	put(t, client, "w/id", "2")
	if err := c.Fresh(t.Context()); !errors.Is(err, ErrOtherHistory) {
		t.Fatalf("%v, want ErrOtherHistory", err)
	}
	for {
		err := c.Fresh(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, ErrOtherHistory) {
			t.Fatal(err)
		}
		<-c.model.(words).changed
	}
	if read(c, "w/id") != "2" || read(c, "w/a") != "one" {
		t.Errorf("loaded %q and %q", read(c, "w/id"), read(c, "w/a"))
	}
}

func TestLeaseIsKeptUntilItIsLost(t *testing.T) {
	t.Parallel()
	c := NewClient(etcd(t), 10*time.Second, "idem/")
	lease, err := c.Grant(t.Context(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Elect(t.Context(), "duty", "one", lease); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Elect(t.Context(), "duty", "two", lease); !errors.Is(err, ErrConflict) {
		t.Errorf("elected beside another: %v, want ErrConflict", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.KeepLease(ctx, lease, 2*time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("ended as asked: %v", err)
	}
	if _, err := c.Etcd.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if err := c.KeepLease(t.Context(), lease, 2*time.Second); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("revoked: %v, want that it is lost", err)
	}
	if kv, err := c.Get(t.Context(), "duty"); kv != nil || err != nil {
		t.Errorf("the duty of a lease that is gone is held: %v, %v", kv, err)
	}
}
