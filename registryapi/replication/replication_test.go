package replication

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	"github.com/ankacluster/ankacluster/registryapi/server"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registry is a registry that is served, and perhaps replicates.
type registry struct {
	t     *testing.T
	srv   *server.Server
	store content.Store
	url   string
	rest  *registryapi.Client
	oci   *transfer.Client
	rep   *Replicator
	// served counts bytes of blobs sent.
	served *atomic.Int64
	stop   func()
}

type options struct {
	root    string
	sources []string
	config  func(*Config)
	through bool
	wrap    func(http.Handler) http.Handler
}

func start(t *testing.T, o options) *registry {
	t.Helper()
	cfg := server.DefaultConfig()
	if cfg.Root = o.root; o.root == "" {
		cfg.Root = t.TempDir()
	}
	store, err := fs.Open(cfg.Root, fs.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(cfg, store, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := &registry{t: t, srv: srv, store: store, served: new(atomic.Int64)}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if len(o.sources) > 0 {
		rc := Config{Sources: o.sources, HTTP: &http.Client{Transport: transport}}
		if o.config != nil {
			o.config(&rc)
		}
		if g.rep, err = New(rc, store, nil); err != nil {
			t.Fatal(err)
		}
		if o.through {
			srv.Use(g.rep.ReadThrough)
		}
		srv.Use(ReadOnly(o.sources))
		srv.TellReplication(g.rep.State)
		done.Go(func() {
			if err := g.rep.Run(ctx); err != nil {
				t.Errorf("replication: %v", err)
			}
		})
	}
	h := srv.Handler()
	if o.wrap != nil {
		h = o.wrap(h)
	}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha") {
			w = &counter{w, g.served}
		}
		h.ServeHTTP(w, r)
	}))
	g.url = ts.URL
	hc := &http.Client{Transport: transport}
	g.rest = registryapi.NewClient(ts.URL, hc)
	if g.oci, err = transfer.New(transfer.Config{Base: ts.URL, HTTP: hc, MinBackoff: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			srv.Drain()
			done.Wait()
			transport.CloseIdleConnections()
			ts.CloseClientConnections()
			ts.Close()
		})
	}
	t.Cleanup(g.stop)
	return g
}

type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// push pushes an image of one file with the given content.
func (g *registry) push(repo, tag string, content []byte) digest.Digest {
	g.t.Helper()
	d, err := g.tryPush(repo, tag, content)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

func (g *registry) tryPush(repo, tag string, content []byte) (digest.Digest, error) {
	path := filepath.Join(g.t.TempDir(), "layer")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return "", err
	}
	pushed, err := g.oci.Push(context.Background(), repo, tag, transfer.Image{
		Config: fmt.Appendf(nil, `{"name":%q,"uuid":%q}`, repo, "5d1b40b9-7ad5-4c50-9f5a-"+digest.FromString(repo).Encoded()[:12]),
		Files:  []transfer.File{{Name: digest.FromBytes(content).Encoded()[:32] + ".ank", Path: path}},
	}, transfer.PushOptions{})
	return pushed.Digest, err
}

// state is what a registry holds, as text to compare.
func (g *registry) state() string {
	g.t.Helper()
	repos, err := g.rest.Repositories(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	var b strings.Builder
	for _, repo := range repos {
		st, err := g.rest.Repository(context.Background(), repo)
		if err != nil {
			g.t.Fatal(err)
		}
		if len(st.Tags) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s\n", repo, st.ID, st.Created.UTC())
		for _, tag := range st.Tags {
			fmt.Fprintf(&b, "  %s %s %d %s\n", tag.Tag, tag.Digest, tag.Order, tag.Pushed.UTC())
		}
	}
	return b.String()
}

// eventually waits for ok; what says what is waited for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func converge(t *testing.T, from *registry, to ...*registry) {
	t.Helper()
	for _, r := range to {
		eventually(t, "the replica equals its source", func() bool {
			return r.rep.State().InSync && r.state() == from.state()
		})
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		x := rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(x >> (8 * j))
		}
	}
	return b
}

func (g *registry) pullsEverything() error {
	repos, err := g.rest.Repositories(context.Background())
	if err != nil {
		return err
	}
	for _, repo := range repos {
		st, err := g.rest.Repository(context.Background(), repo)
		if err != nil {
			return err
		}
		for _, tag := range st.Tags {
			dir, err := os.MkdirTemp(g.t.TempDir(), "")
			if err != nil {
				return err
			}
			if _, err := g.oci.Pull(context.Background(), repo, tag.Tag, dir, transfer.PullOptions{}); err != nil {
				return fmt.Errorf("%s:%s is listed: %w", repo, tag.Tag, err)
			}
		}
	}
	return nil
}

func TestReplicaFollowsPushesDeletesAndReverts(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	push.push("team/old", "v1", noise(1000))
	replica := start(t, options{sources: []string{push.url}})
	chained := start(t, options{sources: []string{replica.url}})
	converge(t, push, replica, chained)

	shared := noise(2 << 20)
	push.push("team/sonoma", "v1", shared)
	push.push("team/sonoma", "v2", shared)
	push.push("team/sonoma", "v3+brew", noise(100))
	converge(t, push, replica, chained)
	if err := chained.pullsEverything(); err != nil {
		t.Error(err)
	}
	list, err := push.rest.Templates(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var id string
	for _, tmpl := range list {
		if tmpl.Repository == "team/sonoma" {
			id = tmpl.ID
		}
	}
	if err := push.rest.Revert(context.Background(), id, registryapi.RevertTarget{Tag: "v2"}); err != nil {
		t.Fatal(err)
	}
	converge(t, push, replica, chained)
	if strings.Contains(chained.state(), "v2") {
		t.Errorf("v2 is still there:\n%s", chained.state())
	}
	if err := push.rest.Delete(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	converge(t, push, replica, chained)
	if strings.Contains(replica.state(), "sonoma") {
		t.Errorf("the deleted template is still there:\n%s", replica.state())
	}
	// A push of what was deleted is a push.
	push.push("team/sonoma", "v1", shared)
	converge(t, push, replica, chained)
}

// R9: a replica lists nothing that it cannot serve, at no moment. The pusher waits
// now and then until something was pulled, so that it is looked at while it grows.
func TestReplicaNeverListsWhatItCannotServe(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	slow := func(c *Config) { c.Bandwidth = 4 << 20 }
	replica := start(t, options{sources: []string{push.url}, config: slow})
	pusher, pulled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(pusher)
		for i := range 30 {
			repo := fmt.Sprintf("t%d", i%5)
			if _, err := push.tryPush(repo, fmt.Sprintf("v%d", i), noise(200_000)); err != nil {
				t.Error(err)
				return
			}
			if i%10 == 9 {
				select {
				case <-pulled:
				case <-t.Context().Done():
					return
				}
			}
			if i%4 == 3 {
				if err := push.oci.DeleteManifest(context.Background(), repo, fmt.Sprintf("v%d", i)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for {
		select {
		case <-pusher:
			converge(t, push, replica)
			if err := replica.pullsEverything(); err != nil {
				t.Error(err)
			}
			return
		default:
		}
		if n := checkListed(t, replica); t.Failed() {
			return
		} else if n == 0 {
			continue
		}
		select {
		case pulled <- struct{}{}:
		default:
		}
	}
}

// checkListed pulls what is listed and returns how much that was. A tag that was
// deleted meanwhile must not be listed any more either.
func checkListed(t *testing.T, g *registry) (pulled int) {
	t.Helper()
	repos, err := g.rest.Repositories(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range repos {
		st, err := g.rest.Repository(context.Background(), repo)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range st.Tags {
			_, err := g.oci.Pull(context.Background(), repo, tag.Tag, t.TempDir(), transfer.PullOptions{})
			if err == nil {
				pulled++
				continue
			}
			after, serr := g.rest.Repository(context.Background(), repo)
			if serr != nil {
				t.Fatal(serr)
			}
			for _, still := range after.Tags {
				if still.Tag == tag.Tag && still.Digest == tag.Digest {
					t.Errorf("%s:%s is listed and cannot be pulled: %v", repo, tag.Tag, err)
				}
			}
		}
	}
	return pulled
}

func TestCopyGoesOnAfterTheReplicaStopped(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	const size = 8 << 20
	push.push("sonoma", "v1", noise(size))
	root := t.TempDir()
	slow := func(c *Config) { c.Bandwidth = 8 << 20 }
	first := start(t, options{root: root, sources: []string{push.url}, config: slow})
	eventually(t, "half of the blob is copied", func() bool { return first.rep.State().CopiedBytes > size/2 })
	first.stop()
	copied := first.rep.State().CopiedBytes
	second := start(t, options{root: root, sources: []string{push.url}})
	converge(t, push, second)
	total := copied + second.rep.State().CopiedBytes
	if limit := int64(size) + size/100; total > limit {
		t.Errorf("copied %d bytes in two runs for a blob of %d", total, size)
	}
	if err := second.pullsEverything(); err != nil {
		t.Error(err)
	}
}

func TestOnlyWhatWasCopiedIsDeleted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	before := start(t, options{root: root})
	before.push("local", "v1", noise(10))
	before.push("sonoma", "own", noise(10))
	before.stop()
	push := start(t, options{})
	push.push("sonoma", "v1", noise(10))
	replica := start(t, options{root: root, sources: []string{push.url}})
	eventually(t, "in sync", func() bool { return replica.rep.State().InSync })
	if err := push.oci.DeleteManifest(context.Background(), "sonoma", "v1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copied v1 is gone", func() bool {
		return !regexp.MustCompile(`(?m)^sonoma .*\n(  .*\n)*  v1 `).MatchString(replica.state())
	})
	push.push("sonoma", "v2", noise(10)) // when that is here, what removed v1 has ended
	eventually(t, "v2 is there", func() bool { return strings.Contains(replica.state(), "  v2 ") })
	for _, want := range []string{`(?m)^local .*\n  v1 `, `(?m)^sonoma .*\n(  .*\n)*  own `} {
		if !regexp.MustCompile(want).MatchString(replica.state()) {
			t.Errorf("%q was deleted:\n%s", want, replica.state())
		}
	}
}

// A push registry that comes back without its disk must not empty its replicas.
func TestEmptiedSourceDeletesNothing(t *testing.T) {
	t.Parallel()
	push, empty := start(t, options{}), start(t, options{})
	push.push("sonoma", "v1", noise(1000))
	var lost atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lost.Load() {
			empty.srv.Handler().ServeHTTP(w, r)
			return
		}
		push.srv.Handler().ServeHTTP(w, r)
	}))
	defer front.Close()
	root := t.TempDir()
	replica := start(t, options{root: root, sources: []string{front.URL}, config: func(c *Config) { c.Poll = 50 * time.Millisecond }})
	converge(t, push, replica)
	lost.Store(true)
	replica.stop()
	front.CloseClientConnections()
	again := start(t, options{root: root, sources: []string{front.URL}})
	eventually(t, "the loss is told", func() bool {
		return strings.Contains(again.rep.State().Sources[0].Error, "nothing is deleted")
	})
	if !strings.Contains(again.state(), "v1") {
		t.Error("the template was deleted")
	}
	again.stop()
}

// A push registry that was started on the wrong disk, and pushed to there, must not
// empty its replicas; one on a copy of its disk, or of a replica's, is followed.
func TestSourceWithAnotherStoreDeletesNothing(t *testing.T) {
	t.Parallel()
	push, wrong := start(t, options{}), start(t, options{})
	push.push("sonoma", "v1", noise(1000))
	wrong.push("ventura", "v1", noise(1000))
	heir := start(t, options{sources: []string{push.url}})
	converge(t, push, heir)
	var at atomic.Pointer[registry]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { at.Load().srv.Handler().ServeHTTP(w, r) }))
	defer front.Close()
	at.Store(push)
	root := t.TempDir()
	replica := start(t, options{root: root, sources: []string{front.URL}, config: func(c *Config) { c.Poll = 50 * time.Millisecond }})
	converge(t, push, replica)

	at.Store(wrong)
	told := func(g *registry) func() bool {
		return func() bool { return strings.Contains(g.rep.State().Sources[0].Error, "lacks tags of sonoma") }
	}
	eventually(t, "the other store is told", told(replica))
	replica.rep.queue.mark("sonoma", time.Now(), replica.rep.sources[0]) // what was under way is looked at again
	eventually(t, "it was looked at", func() bool { return strings.Contains(replica.rep.State().LastError, errOtherStore.Error()) })
	replica.stop()
	again := start(t, options{root: root, sources: []string{front.URL}, config: func(c *Config) { c.Poll = 50 * time.Millisecond }})
	eventually(t, "the other store is told after a restart", told(again))
	if st := again.state(); !strings.Contains(st, "sonoma ") || strings.Contains(st, "ventura ") {
		t.Errorf("want what was copied, and nothing else:\n%s", st)
	}

	at.Store(push)
	push.push("sonoma", "v2", noise(1000))
	converge(t, push, again)
	converge(t, push, heir)
	heir.stop() // it becomes the push registry
	promoted := start(t, options{root: heir.store.Place()})
	at.Store(promoted)
	promoted.push("sonoma", "v3", noise(1000))
	converge(t, promoted, again)
	again.stop()
}

func TestSeveralSourcesGiveTheSameEverywhere(t *testing.T) {
	t.Parallel()
	a, b := start(t, options{}), start(t, options{})
	a.push("sonoma", "v1", noise(1000))
	b.push("sonoma", "v1", noise(1000)) // later: it wins
	b.push("sonoma", "only-b", noise(1000))
	a.push("other", "v1", noise(1000))
	one := start(t, options{sources: []string{a.url, b.url}})
	two := start(t, options{sources: []string{b.url, a.url}})
	synced := func() bool { return one.rep.State().InSync && two.rep.State().InSync && one.state() == two.state() }
	eventually(t, "the replicas agree", synced)
	st, err := b.rest.Repository(context.Background(), "sonoma")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(one.state(), st.Tags[0].Digest) || !strings.Contains(one.state(), "only-b") || !strings.Contains(one.state(), "other") {
		t.Errorf("merged state:\n%s", one.state())
	}
	// Deleted at the winner, the tag of the other source shows.
	if err := b.oci.DeleteManifest(context.Background(), "sonoma", "v1"); err != nil {
		t.Fatal(err)
	}
	st, err = a.rest.Repository(context.Background(), "sonoma")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tag of the other source", func() bool { return synced() && strings.Contains(one.state(), st.Tags[0].Digest) })
	// A source that is away keeps its part.
	b.stop()
	a.push("other", "v2", noise(1000))
	eventually(t, "v2", func() bool { return strings.Contains(one.state(), "v2") })
	if !strings.Contains(one.state(), "only-b") {
		t.Errorf("what only the lost source had is gone:\n%s", one.state())
	}
}

func TestDeleteIsFollowedWhileALargeBlobIsCopied(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	push.push("sonoma", "small", noise(1000))
	replica := start(t, options{sources: []string{push.url}, config: func(c *Config) { c.Bandwidth = 128 << 10 }})
	converge(t, push, replica)
	push.push("sonoma", "large", noise(30<<20)) // four minutes at that rate
	eventually(t, "the copy has begun", func() bool { return len(replica.rep.State().Copies) > 0 })
	if err := push.oci.DeleteManifest(context.Background(), "sonoma", "small"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "small is deleted", func() bool { return !strings.Contains(replica.state(), "small") })
	if len(replica.rep.State().Copies) == 0 {
		t.Error("the large copy ended first: the test shows nothing")
	}
	// What is no longer wanted is not copied on.
	if err := push.oci.DeleteManifest(context.Background(), "sonoma", "large"); err != nil {
		t.Fatal(err)
	}
	repos, err := push.rest.Repository(context.Background(), "sonoma")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range repos.Manifests {
		if err := push.oci.DeleteManifest(context.Background(), "sonoma", m.Digest); err != nil && !errors.Is(err, transfer.ErrNotFound) {
			t.Fatal(err)
		}
	}
	eventually(t, "the copy ends", func() bool { return len(replica.rep.State().Copies) == 0 })
}

func TestWrongBytesFromASourceAreNeverSeen(t *testing.T) {
	t.Parallel()
	var lie atomic.Bool
	lie.Store(true)
	content := noise(100_000)
	push := start(t, options{wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if lie.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, digest.FromBytes(content).String()) {
				bad := bytes.Clone(content)
				bad[50_000] ^= 1
				_, _ = w.Write(bad)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	push.push("sonoma", "v1", content)
	replica := start(t, options{sources: []string{push.url}})
	eventually(t, "the error is told", func() bool { return strings.Contains(replica.rep.State().LastError, "digest") })
	if strings.Contains(replica.state(), "v1") {
		t.Error("the tag is listed")
	}
	lie.Store(false)
	converge(t, push, replica)
}

func TestReplicaAndPushRegistryRefuseWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	push := start(t, options{wrap: WriteOnly})
	push.push("sonoma", "v1", noise(100))
	replica := start(t, options{sources: []string{push.url}})
	converge(t, push, replica)
	if _, err := push.oci.Pull(context.Background(), "sonoma", "v1", t.TempDir(), transfer.PullOptions{}); !errors.Is(err, transfer.ErrDenied) {
		t.Errorf("pull from a write-only registry: %v", err)
	}
	if _, err := replica.tryPush("sonoma", "v2", noise(10)); !errors.Is(err, transfer.ErrDenied) || !strings.Contains(err.Error(), push.url) {
		t.Errorf("push to a replica: %v; want where to push", err)
	}
	if err := replica.rest.Delete(context.Background(), "5d1b40b9-7ad5-4c50-9f5a-000000000000"); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("delete at a replica: %v", err)
	}
	st, err := replica.rest.Status(context.Background())
	if err != nil || st.Replication == nil || !st.Replication.InSync {
		data, _ := json.Marshal(st)
		t.Errorf("status %s, %v", data, err)
	}
}

func TestReadThroughServesAndKeepsWhatIsNotHereYet(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	content := noise(6 << 20)
	push.push("sonoma", "v1", content)
	replica := start(t, options{sources: []string{push.url}, through: true, config: func(c *Config) { c.Bandwidth = 3 << 20 }})
	dir := t.TempDir()
	// At once: the copy takes two seconds.
	pulled, err := replica.oci.Pull(context.Background(), "sonoma", "v1", dir, transfer.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(pulled.Files[0].Path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("pulled %d bytes, %v", len(got), err)
	}
	converge(t, push, replica)
	if n := push.served.Load(); n > int64(len(content))*3/2 {
		t.Errorf("the source served %d bytes for one blob of %d", n, len(content))
	}
	if _, err := replica.oci.Pull(context.Background(), "sonoma", "nothing", t.TempDir(), transfer.PullOptions{}); !errors.Is(err, transfer.ErrNotFound) {
		t.Errorf("a tag that exists nowhere: %v", err)
	}
}

func TestReadThroughServesRanges(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	content := noise(20 << 20)
	push.push("sonoma", "v1", content)
	replica := start(t, options{sources: []string{push.url}, through: true, config: func(c *Config) { c.Bandwidth = 1 << 20 }})
	for _, tc := range []struct {
		header string
		status int
		want   []byte
	}{
		{"bytes=0-99", 206, content[:100]},
		{"bytes=18000000-18000999", 206, content[18000000:18001000]},
		{"bytes=-10", 206, content[len(content)-10:]},
		{"bytes=99999999-", 416, nil},
	} {
		req, err := http.NewRequest(http.MethodGet, replica.url+"/v2/sonoma/blobs/"+digest.FromBytes(content).String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", tc.header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tc.status || !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %d with %d bytes, %v; want %d with %d", tc.header, resp.StatusCode, len(got), err, tc.status, len(tc.want))
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// The metrics tell how far behind a replica is, and what it has copied.
func TestMetricsTellOfCopiesAndLag(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	const size = 100_000
	push.push("team/sonoma", "v1", noise(size))
	reg := prometheus.NewRegistry()
	replica := start(t, options{sources: []string{push.url}, config: func(c *Config) { c.Metrics = reg }})
	converge(t, push, replica)
	value := func(name string) float64 {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "anka_registry_replication_"+name {
				m := f.GetMetric()[0]
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() // it has one of them
			}
		}
		t.Fatalf("no metric %s", name)
		return 0
	}
	eventually(t, "the metrics say that nothing is missing", func() bool {
		return value("connected") == 1 && value("pending_repositories") == 0 && value("lag_seconds") == 0
	})
	if n, tags := value("bytes_total"), value("tags_total"); n < size || tags < 1 {
		t.Errorf("%v bytes and %v tags are copied, want at least %d and 1", n, tags, size)
	}
	push.stop()
	eventually(t, "the metrics say that the source is gone", func() bool { return value("connected") == 0 && value("errors_total") > 0 })
}

// A tag whose file is damaged at the source is not one that was deleted there:
// the replica keeps its own, and goes on to follow the rest.
func TestDamageAtTheSourceIsNoDelete(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	push := start(t, options{root: root})
	push.push("vm", "v1", noise(100))
	push.push("vm", "v2", noise(100))
	replica := start(t, options{sources: []string{push.url}})
	converge(t, push, replica)
	file := filepath.Join(root, "repos", "vm", "tags", "v1")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole[:len(whole)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	push.push("vm", "v3", noise(100))
	eventually(t, "v3 is at the replica", func() bool { return strings.Contains(replica.state(), "v3 ") })
	if got := replica.state(); !strings.Contains(got, "v1 ") {
		t.Errorf("v1 is gone from the replica:\n%s", got)
	}
	// Mended, and deleted in truth.
	if err := os.WriteFile(file, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := push.oci.DeleteManifest(t.Context(), "vm", "v1"); err != nil {
		t.Fatal(err)
	}
	converge(t, push, replica)
}

// What a source's URL holds of credentials is used, and shown to nobody.
func TestCredentialsInASourcesURLAreNotShown(t *testing.T) {
	t.Parallel()
	var authorized atomic.Bool
	push := start(t, options{wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			authorized.Store(user == "token-of-ours" && password == "s3cret")
			next.ServeHTTP(w, r)
		})
	}})
	with := strings.Replace(push.url, "http://", "http://token-of-ours:s3cret@", 1)
	replica := start(t, options{sources: []string{with}})
	eventually(t, "the source is followed", func() bool { return replica.rep.State().InSync })
	if !authorized.Load() {
		t.Error("the source was asked without the credentials")
	}
	shown := fmt.Sprintf("%+v", replica.rep.State())
	_, err := replica.tryPush("vm", "v1", noise(10))
	push.stop()
	eventually(t, "the source is missed", func() bool { return !replica.rep.State().Sources[0].Connected })
	shown += fmt.Sprintf("%+v %v", replica.rep.State(), err)
	shown += fmt.Sprint(Config{Sources: []string{with, with}}.Validate())
	shown += fmt.Sprint(Config{Sources: []string{strings.Replace(with, "http:", "ftp:", 1)}}.Validate())
	for _, secret := range []string{"token-of-ours", "s3cret"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown in %s", secret, shown)
		}
	}
	if !strings.Contains(shown, strings.TrimPrefix(push.url, "http://")) {
		t.Errorf("the source is not named in %s", shown)
	}
}
