package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

var kills = flag.Int("kills", 20, "how often a host is killed during pushes")

// clusterHost is one anka-controller --standalone --cluster of a test.
type clusterHost struct {
	t         testing.TB
	addr, dir string
	hosts     string
	flags     []string // beside those that say who it is
	log       *syncBuffer
	cmd       *exec.Cmd
}

func (h *clusterHost) start() {
	h.t.Helper()
	h.cmd = exec.Command(os.Args[0], append([]string{"--standalone", "--cluster", h.hosts, "--cluster-self", h.addr, "--listen-addr", h.addr + ":8090",
		"--registry-listen-address", h.addr + ":8089", "--data-dir", h.dir}, h.flags...)...)
	h.cmd.Env = []string{mainVar + "=1", "HOME=" + h.dir}
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
}

// kill ends the process as the death of its machine would, without a word.
func (h *clusterHost) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait() // its exit is what was asked for
}

func (h *clusterHost) registry() string { return "http://" + h.addr + ":8089" }

// answers waits until the registry answers lists.
func (h *clusterHost) answers() {
	h.t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		if _, err = registryapi.NewClient(h.registry(), http.DefaultClient).Templates(h.t.Context()); err == nil {
			return
		}
	}
	h.t.Fatalf("%s does not answer: %v\n%s", h.addr, err, h.log)
}

// startHosts starts three hosts on addresses of loopback, with their data in dir, and
// waits for them.
func startHosts(t testing.TB, dir string, flags ...string) (hosts []*clusterHost) {
	t.Helper()
	var addrs []string
	for i := range 3 {
		addrs = append(addrs, fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>8%254, os.Getpid()&255, 4+i))
	}
	for _, addr := range addrs {
		h := &clusterHost{t: t, addr: addr, dir: filepath.Join(dir, addr), hosts: strings.Join(addrs, ","), flags: flags, log: &syncBuffer{}}
		hosts = append(hosts, h)
		h.start()
		t.Cleanup(func() { h.kill() })
	}
	for _, h := range hosts {
		h.answers()
	}
	return hosts
}

// anyHost sends each request to the next host.
type anyHost struct {
	hosts []*clusterHost
	n     atomic.Int64
}

func (a *anyHost) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.URL.Host, out.Host = a.hosts[int(a.n.Add(1))%len(a.hosts)].addr+":8089", ""
	return http.DefaultTransport.RoundTrip(out)
}

// What is acknowledged while hosts are killed again and again is at every host in
// the end, and what is listed is whole.
func TestKillsDuringPushes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs addresses of loopback that only Linux has without being told")
	}
	hosts := startHosts(t, t.TempDir())
	pool := &http.Client{Transport: &anyHost{hosts: hosts}}
	client, err := transfer.New(transfer.Config{Base: "http://pool", HTTP: pool, Chunk: 4 << 20, Attempts: 40, MaxBackoff: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acked := make(map[string]digest.Digest) // of manifests, by repository:tag
	ctx, stop := context.WithCancel(t.Context())
	var pushers sync.WaitGroup
	seed := rand.Uint64()
	t.Log("seed", seed)
	for w := range 3 {
		pushers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; ctx.Err() == nil; i++ {
				tag := fmt.Sprintf("v%d", i)
				d, err := pushOnce(ctx, pool, client, fmt.Sprintf("vm%d", w), tag, rng)
				if err != nil {
					continue // not acknowledged
				}
				mu.Lock()
				acked[fmt.Sprintf("vm%d:%s", w, tag)] = d
				mu.Unlock()
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	for range *kills {
		h := hosts[rng.IntN(len(hosts))]
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
		h.kill()
		h.start()
		h.answers()
	}
	stop()
	pushers.Wait()
	t.Logf("%d pushes were acknowledged during %d kills", len(acked), *kills)
	for _, h := range hosts {
		h.answers()
		for ref, d := range acked {
			repo, tag, _ := strings.Cut(ref, ":")
			if err := pullWhole(h.registry(), repo, tag, d); err != nil {
				t.Errorf("acknowledged %s at %s: %v", ref, h.addr, err)
			}
		}
		list, err := registryapi.NewClient(h.registry(), http.DefaultClient).Copies(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range list {
			if err := pullWhole(h.registry(), tc.Repository, tc.Tag, digest.Digest(tc.Digest)); err != nil {
				t.Errorf("listed %s:%s at %s: %v", tc.Repository, tc.Tag, h.addr, err)
			}
		}
	}
}

// pushOnce pushes an image of some size, its requests to any host, and repeats
// what failed a few times.
func pushOnce(ctx context.Context, pool *http.Client, client *transfer.Client, repo, tag string, rng *rand.Rand) (digest.Digest, error) {
	sizes := []int{1, 1000, 1 << 20, 5<<20 + 3, 17 << 20}
	data := make([]byte, sizes[rng.IntN(len(sizes))])
	for i := 0; i < len(data); i += 8 {
		n := rng.Uint64()
		for k := i; k < min(i+8, len(data)); k++ {
			data[k], n = byte(n), n>>8
		}
	}
	config := fmt.Appendf(nil, `{"name":%q,"n":%d}`, repo, rng.Uint64())
	m := ispec.Manifest{MediaType: ispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	var raw []byte
	var last error
	for range 3 {
		m.Layers = nil
		for k, b := range [][]byte{config, data} {
			desc := ispec.Descriptor{MediaType: registryapi.MediaTypeVMFile, Digest: digest.FromBytes(b), Size: int64(len(b))}
			if err := client.Upload(ctx, repo, desc, bytes.NewReader(b)); err != nil {
				return "", err
			}
			if k == 0 {
				desc.MediaType = registryapi.MediaTypeVMConfig
				m.Config = desc
			} else {
				m.Layers = []ispec.Descriptor{desc}
			}
		}
		var err error
		if raw, err = json.Marshal(m); err != nil {
			return "", err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://pool/v2/"+repo+"/manifests/"+tag, bytes.NewReader(raw))
		if err != nil {
			return "", err
		}
		req.Header.Set("Content-Type", m.MediaType)
		resp, err := pool.Do(req)
		if err != nil {
			last = err
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusCreated {
			return digest.FromBytes(raw), nil
		}
		last = errors.New(resp.Status)
	}
	return "", last
}

// pullWhole reads a tag with all of its content and compares the digests.
func pullWhole(base, repo, tag string, want digest.Digest) error {
	get := func(path string) ([]byte, error) {
		resp, err := http.Get(base + path)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s %s", path, resp.Status, data)
		}
		return data, err
	}
	raw, err := get("/v2/" + repo + "/manifests/" + tag)
	if err != nil {
		return err
	}
	if got := digest.FromBytes(raw); got != want {
		return fmt.Errorf("manifest is %s, not %s", got, want)
	}
	var m ispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	for _, d := range append(m.Layers, m.Config) {
		data, err := get("/v2/" + repo + "/blobs/" + d.Digest.String())
		if err != nil {
			return err
		}
		if digest.FromBytes(data) != d.Digest {
			return fmt.Errorf("blob %s is damaged", d.Digest)
		}
	}
	return nil
}
