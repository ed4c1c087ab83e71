package topologies

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// registry is an anka-registry of its own on loopback.
type registry struct {
	*process
	url string
	dir string
}

// newRegistry starts one; args are asked for at each of its starts.
func newRegistry(t *testing.T, name, dir string, args func() []string) *registry {
	t.Helper()
	addr := freeAddr(t)
	r := &registry{url: "http://" + addr, dir: dir}
	r.process = newProcess(t, name, func() *exec.Cmd {
		return exec.Command(bin("anka-registry"), append([]string{"--listen-addr", addr, "--base-path", dir, "--min-free", "0"}, args()...)...)
	})
	r.up()
	return r
}

func given(args ...string) func() []string { return func() []string { return args } }

// up starts the registry and waits until it serves.
func (r *registry) up() {
	r.t.Helper()
	r.start()
	eventually(r.t, r.name+" is ready", func() error {
		if !r.running() {
			r.t.Fatalf("%s ended:\n%s", r.name, r.tail(5))
		}
		return getOK(r.url + "/readyz")
	})
}

func getOK(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s, %w", url, resp.Status, err)
	}
	return nil
}

// tool runs anka-registry on the registry's directory.
func (r *registry) tool(args ...string) (string, error) {
	out, err := exec.Command(bin("anka-registry"), append([]string{"--base-path", r.dir}, args...)...).CombinedOutput()
	return string(out), err
}

func (r *registry) replication() (registryapi.Replication, error) {
	st, err := registryapi.NewClient(r.url, http.DefaultClient).Replication(context.Background())
	return st, err
}

func transferClient(t *testing.T, hc *http.Client, base string) *transfer.Client {
	t.Helper()
	c, err := transfer.New(transfer.Config{Base: base, HTTP: hc, Chunk: 2 << 20, Attempts: 30})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pushNew pushes content that nobody has, of size bytes, as repo:tag.
func pushNew(ctx context.Context, c *transfer.Client, dir, repo, tag string, size int64) error {
	f, err := os.CreateTemp(dir, "push-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(repo+tag))), size)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = c.Push(ctx, repo, tag, transfer.Image{
		Config: []byte(`{"name":"demo","uuid":"5d1b40b9-7ad5-4c50-9f5a-2e0f7f5a0f22"}`),
		Files:  []transfer.File{{Name: fmt.Sprintf("%032x.ank", 1), Path: f.Name()}},
	}, transfer.PushOptions{})
	return err
}

// pull fetches repo:tag, every digest checked, and throws it away.
func pull(ctx context.Context, t *testing.T, url, repo, tag string) error {
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	_, err := transferClient(t, nil, url).Pull(ctx, repo, tag, dir, transfer.PullOptions{})
	return err
}

func tags(url, repo string) ([]string, error) {
	resp, err := http.Get(url + "/v2/" + repo + "/tags/list")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	var list struct{ Tags []string }
	return list.Tags, json.NewDecoder(resp.Body).Decode(&list)
}

// TestRegistriesOnSharedStorage has two servers on one directory, of which one
// collects garbage all the time, while people push through both. The servers are
// killed at random, now and then both. What was acknowledged is whole at either.
func TestRegistriesOnSharedStorage(t *testing.T) {
	long(t)
	dir := t.TempDir()
	servers := []*registry{
		newRegistry(t, "registry that collects", dir, given("--gc-interval", "200ms", "--gc-grace", "10m")),
		newRegistry(t, "registry beside it", dir, given("--gc-interval", "0")),
	}
	b, err := balancer.New(balancer.BlobConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetMembers(balancer.OriginJoin, []string{servers[0].url, servers[1].url}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var background, pushers sync.WaitGroup
	background.Go(func() { _ = b.Run(ctx) })
	defer func() { cancel(); background.Wait() }()

	garbage := makeGarbage(t, servers[0])
	const each, people = 8, 3
	var mu sync.Mutex
	var acknowledged []string
	for p := range people {
		c, scratch := transferClient(t, b.Client(), "http://registries"), t.TempDir()
		pushers.Go(func() {
			for n := range each {
				tag := fmt.Sprintf("p%d-%d", p, n)
				if err := pushNew(ctx, c, scratch, "team/demo", tag, 12<<20); err != nil {
					t.Errorf("push %s: %v", tag, err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, tag)
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random, kills := rand.New(rand.NewPCG(uint64(seed), 0)), 0
	for done := count(); done < each*people && !t.Failed(); {
		// At a moment of no meaning between two acknowledgements.
		eventually(t, "pushes go on", func() error {
			if n := count(); n <= done && n < each*people && !t.Failed() {
				return fmt.Errorf("%d pushed", n)
			}
			return nil
		})
		done = count()
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		victims := servers[:1]
		switch random.IntN(3) {
		case 0:
			victims = servers[1:]
		case 1:
			victims = servers
		}
		for _, v := range victims {
			v.kill()
			kills++
		}
		for _, v := range victims {
			v.up()
		}
	}
	pushers.Wait()
	for i, tag := range acknowledged {
		if err := pull(ctx, t, servers[i%2].url, "team/demo", tag); err != nil {
			t.Errorf("pull of %s, which was acknowledged, from %s: %v", tag, servers[i%2].name, err)
		}
	}
	eventually(t, "garbage is collected", func() error {
		if _, err := os.Stat(garbage); err == nil {
			return fmt.Errorf("%s is still there", garbage)
		}
		return nil
	})
	if out, err := servers[0].tool("verify"); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	t.Logf("%d pushes of 12 MiB acknowledged and whole, %d servers killed meanwhile", len(acknowledged), kills)
}

// makeGarbage leaves content in an empty registry that nothing names and that is
// older than any grace, and returns its file.
func makeGarbage(t *testing.T, r *registry) string {
	t.Helper()
	c := transferClient(t, nil, r.url)
	if err := pushNew(t.Context(), c, t.TempDir(), "team/garbage", "v1", 1<<20); err != nil {
		t.Fatal(err)
	}
	m, err := c.Manifest(t.Context(), "team/garbage", "v1")
	if err == nil {
		err = c.DeleteManifest(t.Context(), "team/garbage", string(m.Digest))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := largestBlob(t, r.dir)
	old := time.Now().Add(-48 * time.Hour)
	err = filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it went meanwhile: the collector is at work
		}
		_ = os.Chtimes(path, old, old)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPushRegistryAndReplicas is the guide's picture of replicated storage: one
// registry that takes pushes and serves nobody else, two that copy it.
func TestPushRegistryAndReplicas(t *testing.T) {
	long(t)
	push := newRegistry(t, "push registry", t.TempDir(), given("--write-only"))
	bandwidth := "200KB" // at first: nothing of this size arrives while the test looks
	args := func() []string { return []string{"--replica-of", push.url, "--replica-bandwidth", bandwidth} }
	replicas := []*registry{newRegistry(t, "replica 1", t.TempDir(), args), newRegistry(t, "replica 2", t.TempDir(), args)}
	ctx := t.Context()
	inSync := func() {
		t.Helper()
		for _, r := range replicas {
			eventually(t, r.name+" is in sync", func() error {
				st, err := r.replication()
				if err == nil && !st.InSync {
					err = fmt.Errorf("%+v", st)
				}
				return err
			})
		}
	}
	if err := pushNew(ctx, transferClient(t, nil, push.url), t.TempDir(), "team/demo", "v1", 48<<20); err != nil {
		t.Fatal(err)
	}
	for _, r := range replicas {
		eventually(t, r.name+" tells its lag", func() error {
			st, err := r.replication()
			if err == nil && (st.LagSeconds <= 0 || st.InSync) {
				err = fmt.Errorf("%+v", st)
			}
			return err
		})
		if list, err := tags(r.url, "team/demo"); err != nil || len(list) != 0 {
			t.Errorf("%s lists %v, %v before it can serve it", r.name, list, err)
		}
	}
	bandwidth = "0"
	replicas[0].kill() // in mid copy
	if code := replicas[1].stop(); code != 0 {
		t.Errorf("%s ended with %d in mid copy", replicas[1].name, code)
	}
	for _, r := range replicas {
		r.up()
	}
	inSync()
	for _, r := range replicas {
		if err := pull(ctx, t, r.url, "team/demo", "v1"); err != nil {
			t.Errorf("pull from %s: %v", r.name, err)
		}
		if err := pushNew(ctx, transferClient(t, nil, r.url), t.TempDir(), "team/demo", "wrong", 1<<10); err == nil {
			t.Errorf("%s took a push", r.name)
		}
	}
	if err := pull(ctx, t, push.url, "team/demo", "v1"); err == nil {
		t.Error("the push registry served a pull")
	}

	// A disk that forgets: the largest blob of a replica.
	blob := largestBlob(t, replicas[1].dir)
	f, err := os.OpenFile(blob, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("not what was pushed"), 5<<20)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := pull(ctx, t, replicas[1].url, "team/demo", "v1"); err == nil {
		t.Error("damaged content passed a pull")
	}
	if out, err := replicas[1].tool("verify"); err == nil {
		t.Errorf("verify saw no damage:\n%s", out)
	}
	if out, err := replicas[1].tool("verify", "--repair", "--from", push.url); err != nil {
		t.Errorf("repair: %v\n%s", err, out)
	}
	if err := pull(ctx, t, replicas[1].url, "team/demo", "v1"); err != nil {
		t.Errorf("pull of what was repaired: %v", err)
	}
}

func largestBlob(t *testing.T, dir string) string {
	t.Helper()
	path, size := "", int64(0)
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			path, size = p, info.Size()
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no blob in %s: %v", dir, err)
	}
	return path
}

// TestRsyncInTheSafeOrder copies a registry's directory with the commands of
// docs/replication.md, again and again while it is pushed to and its tags are
// deleted. Whatever the copy lists can be pulled from it, at every moment.
func TestRsyncInTheSafeOrder(t *testing.T) {
	long(t)
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip("SKIPPED: rsync is not installed; on Debian: apt-get install rsync")
	}
	source := newRegistry(t, "source", t.TempDir(), given())
	mirror := newRegistry(t, "copy", t.TempDir(), given("--gc-interval", "0", "--vm-list-cache-ttl", "1s"))
	copyOnce := func() {
		t.Helper()
		for _, args := range [][]string{{"blobs"}, {"--delete", "repos"}, {"--delete", "blobs"}} {
			part := args[len(args)-1]
			all := append([]string{"-a"}, args[:len(args)-1]...)
			out, err := exec.Command("rsync", append(all, filepath.Join(source.dir, part), mirror.dir+"/")...).CombinedOutput()
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 24 {
				continue // "some files vanished": they were deleted meanwhile; the next copy has it right
			}
			if err != nil {
				t.Fatalf("rsync: %v\n%s", err, out)
			}
		}
	}
	ctx, c := t.Context(), transferClient(t, nil, source.url)
	const pushes = 16
	done := make(chan error, 1)
	scratch := t.TempDir()
	go func() {
		for n := range pushes {
			err := pushNew(ctx, c, scratch, "team/demo", fmt.Sprintf("v%d", n), 6<<20)
			if err == nil && n%4 == 3 {
				err = c.DeleteManifest(ctx, "team/demo", fmt.Sprintf("v%d", n-2))
			}
			if err != nil {
				done <- fmt.Errorf("push or delete %d: %w", n, err)
				return
			}
		}
		done <- nil
	}()
	copies, pulls := 0, 0
	checkAll := func() {
		t.Helper()
		list, err := tags(mirror.url, "team/demo")
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range list {
			if err := pull(ctx, t, mirror.url, "team/demo", tag); err != nil {
				t.Errorf("the copy lists %s and cannot serve it: %v", tag, err)
			}
			pulls++
		}
	}
	for going := true; going; copies++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			going = false
		default:
		}
		copyOnce()
		checkAll()
	}
	copyOnce()
	want, err := tags(source.url, "team/demo")
	if err != nil {
		t.Fatal(err)
	}
	got, err := tags(mirror.url, "team/demo")
	if err != nil || strings.Join(got, " ") != strings.Join(want, " ") || len(got) != pushes-pushes/4 {
		t.Errorf("the copy has %v, %v, the source %v", got, err, want)
	}
	checkAll()
	if out, err := mirror.tool("verify"); err != nil {
		t.Errorf("verify of the copy: %v\n%s", err, out)
	}
	t.Logf("%d copies during %d pushes, %d pulls from the copy", copies, pushes, pulls)
}
