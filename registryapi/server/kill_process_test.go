package server

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
)

// kills is raised for the long run: go test -run R3 -kills 500 -timeout 30m
var kills = flag.Int("kills", 15, "how many servers the crash test kills")

// childRoot makes the test binary a registry server on that directory, to be
// killed by the crash test.
const childRoot = "ANKA_REGISTRY_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(childRoot); root != "" {
		serveChild(root)
		return
	}
	os.Exit(m.Run())
}

func serveChild(root string) {
	cfg := testConfig(root)
	cfg.ListenAddr = "127.0.0.1:0"
	cfg.ListCacheTTL = 100 * time.Millisecond
	store, err := fs.Open(root, fs.Limits{})
	if err != nil {
		panic(err)
	}
	srv, err := New(cfg, store, nil)
	if err != nil {
		panic(err)
	}
	go func() {
		for srv.Addr() == nil {
			time.Sleep(time.Millisecond) // in the child only, which nobody asserts on
		}
		fmt.Println(srv.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent, however that ends
		os.Exit(1)
	}()
	if err := srv.Run(context.Background()); err != nil {
		panic(err)
	}
}

// victim is a server process that is killed and started again.
type victim struct {
	addr atomic.Pointer[string]
	cmd  *exec.Cmd
}

func (v *victim) start(t *testing.T, root string) {
	t.Helper()
	v.cmd = exec.Command(os.Args[0])
	v.cmd.Env = append(os.Environ(), childRoot+"="+root)
	if _, err := v.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said no address: %v", err)
	}
	addr := "http://" + strings.TrimSpace(line)
	v.addr.Store(&addr)
}

func (v *victim) kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// ledger is what was acknowledged to the pushing clients.
type ledger struct {
	mu      sync.Mutex
	pushed  map[string]digest.Digest // repo:tag; guarded by mu
	deleted map[string]bool          // guarded by mu
	resumed int                      // uploads gone on with after a failure; guarded by mu
	lost    int                      // uploads that no server knew any more; guarded by mu
	// answered gets a value at each answer while somebody listens.
	answered chan struct{}
	// first is closed at the first tag acknowledged.
	first func()
}

// Requirement R3: servers of one directory are killed at random moments while
// clients push. Every listed tag pulls with the right digest, nothing that was
// acknowledged is lost, uploads resume, and leftovers are collected.
func TestR3KilledServersLoseNothing(t *testing.T) {
	root := t.TempDir()
	victims := []*victim{{}, {}}
	for _, v := range victims {
		v.start(t, root)
	}
	t.Cleanup(func() {
		for _, v := range victims {
			v.kill()
		}
	})
	acknowledged := make(chan struct{})
	book := &ledger{pushed: make(map[string]digest.Digest), deleted: make(map[string]bool), answered: make(chan struct{}),
		first: sync.OnceFunc(func() { close(acknowledged) })}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() { pushForEver(ctx, w, victims, book) })
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	resumed := func() int {
		book.mu.Lock()
		defer book.mu.Unlock()
		return book.resumed
	}
	for i := 0; i < *kills || resumed() == 0; i++ {
		// By what the clients got done and not by the clock: on a busy machine the
		// servers would die before anything is pushed. Then some moment more, for
		// the servers are at rest when they have just answered.
		for range 1 + rng.IntN(40) {
			<-book.answered
		}
		time.Sleep(time.Duration(rng.IntN(5000)) * time.Microsecond)
		v := victims[i%len(victims)]
		v.kill()
		v.start(t, root)
	}
	<-acknowledged
	stop()
	wg.Wait()
	for _, v := range victims {
		v.kill()
	}
	checkSurvivors(t, root, book)
}

func checkSurvivors(t *testing.T, root string, book *ledger) {
	t.Helper()
	g := newRegistry(t, testConfig(root))
	st := openStore(t, root)
	t.Logf("%d kills: %d tags acknowledged, %d deleted, %d uploads resumed", *kills, len(book.pushed), len(book.deleted), book.resumed)
	if book.lost > 0 {
		t.Errorf("%d uploads were unknown after a kill, want none", book.lost)
	}
	for name, want := range book.pushed {
		repo, tag, _ := strings.Cut(name, ":")
		a := g.do("GET", "/v2/"+repo+"/manifests/"+tag, nil)
		if got := digest.FromBytes(a.body); a.status != 200 || got != want {
			t.Errorf("%s was acknowledged: got %d %s, want %s", name, a.status, got, want)
		}
	}
	for name := range book.deleted {
		repo, tag, _ := strings.Cut(name, ":")
		if _, err := st.Tag(repo, tag); err == nil {
			t.Errorf("%s was deleted and is there", name)
		}
	}
	// Every listed tag is complete, acknowledged or not, and all content is
	// what its digest says.
	v, err := st.Verify(t.Context(), fs.VerifyOptions{})
	if err != nil || len(v.Damage) != 0 {
		t.Errorf("verify: %d damaged, %v: %+v", len(v.Damage), err, v.Damage)
	}
	if v.Tags < len(book.pushed) {
		t.Errorf("verify saw %d tags, %d were acknowledged", v.Tags, len(book.pushed))
	}
	if _, err := st.PurgeUploads(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if _, err := st.Settle(); err != nil {
		t.Error(err)
	}
	if _, err := st.Collect(t.Context(), content.CollectOptions{KeepUntagged: time.Nanosecond}); err != nil {
		t.Error(err)
	}
	stats, err := st.Stats(t.Context())
	if err != nil || stats.Uploads != 0 || stats.Unreferenced != 0 {
		t.Errorf("leftovers: %+v, %v", stats, err)
	}
	if left, err := os.ReadDir(root + "/uploads"); err != nil || len(left) != 0 {
		t.Errorf("%d upload directories are left, %v", len(left), err)
	}
}

// pushForEver pushes one template after another, through either server, going
// on with what was cut.
func pushForEver(ctx context.Context, worker int, victims []*victim, book *ledger) {
	rng := rand.New(rand.NewPCG(uint64(worker), 1))
	c := &killClient{ctx: ctx, victims: victims, book: book, http: &http.Client{Timeout: 30 * time.Second}}
	repo := fmt.Sprintf("team/vm%d", worker)
	for n := 0; ctx.Err() == nil; n++ {
		layer := make([]byte, 1+rng.IntN(300_000))
		for i := range layer {
			layer[i] = byte(rng.Uint32())
		}
		config := fmt.Appendf(nil, `{"name":"vm%d"}`, worker)
		if !c.blob(repo, config) || !c.blob(repo, layer) {
			continue
		}
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":%d},"layers":[{"mediaType":"l","digest":%q,"size":%d}]}`,
			digest.FromBytes(config), len(config), digest.FromBytes(layer), len(layer))
		tag := fmt.Sprintf("t%d", n)
		status, _ := c.call("PUT", "/v2/"+repo+"/manifests/"+tag, raw, "Content-Type", "application/vnd.oci.image.manifest.v1+json")
		if status != http.StatusCreated {
			continue // not acknowledged: it may be there or not
		}
		if n%5 == 4 {
			// Unknown outcomes are asked again until one is definite.
			for status := 0; status != http.StatusAccepted && status != http.StatusNotFound; {
				if ctx.Err() != nil {
					return
				}
				status, _ = c.call("DELETE", "/v2/"+repo+"/manifests/"+tag, nil)
			}
			book.mu.Lock()
			book.deleted[repo+":"+tag] = true
			book.mu.Unlock()
			continue
		}
		book.mu.Lock()
		book.pushed[repo+":"+tag] = digest.FromBytes(raw)
		book.mu.Unlock()
		book.first()
	}
}

type killClient struct {
	ctx     context.Context
	victims []*victim
	book    *ledger
	http    *http.Client
	turn    int
}

// call sends a request to the next server; status 0 means no answer.
func (c *killClient) call(method, path string, body []byte, header ...string) (int, http.Header) {
	c.turn++
	req, err := http.NewRequestWithContext(c.ctx, method, *c.victims[c.turn%len(c.victims)].addr.Load()+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, nil
	}
	select {
	case c.book.answered <- struct{}{}:
	default:
	}
	return resp.StatusCode, resp.Header
}

// blob pushes in chunks and goes on where the servers say that they are.
func (c *killClient) blob(repo string, data []byte) bool {
	status, h := c.call("POST", "/v2/"+repo+"/blobs/uploads/", nil)
	if status != http.StatusAccepted {
		return false
	}
	loc, d := h.Get("Location"), digest.FromBytes(data).String()
	offset, failed := 0, false
	for offset < len(data) {
		if c.ctx.Err() != nil {
			return false
		}
		end := min(offset+40_000, len(data))
		status, h := c.call("PATCH", loc, data[offset:end], "Content-Range", fmt.Sprintf("%d-%d", offset, end-1))
		if status == http.StatusNotFound {
			c.book.mu.Lock()
			c.book.lost++
			c.book.mu.Unlock()
			return false
		}
		if status != http.StatusAccepted {
			failed = true
			if status, h = c.call("GET", loc, nil); status != http.StatusNoContent {
				continue
			}
		}
		if _, err := fmt.Sscan(h.Get(registryapi.HeaderUploadOffset), &offset); err != nil {
			return false
		}
	}
	if failed {
		c.book.mu.Lock()
		c.book.resumed++
		c.book.mu.Unlock()
	}
	for c.ctx.Err() == nil {
		switch status, _ := c.call("PUT", loc+"?digest="+d, nil); status {
		case http.StatusCreated:
			return true
		case 0: // no answer: ask again
		default:
			return false
		}
	}
	return false
}
