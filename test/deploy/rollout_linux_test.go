package deploy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPodsRunAsRenderedAndRollWithoutLoss runs what the chart renders with its
// push registry and replicas, asks its probes, and replaces every pod in turn as
// a roll-out does while clients go on through the services.
func TestPodsRunAsRenderedAndRollWithoutLoss(t *testing.T) {
	n := newNode(t)
	n.install(map[string]any{"registry": map[string]any{"mode": "replicated", "replicas": 2}})
	controllers := n.serviceURL("cloud-ankacluster-controller")
	replicas := n.serviceURL("cloud-ankacluster-registry")
	push := n.serviceURL("cloud-ankacluster-push-registry")

	blob := bytes.Repeat([]byte("a layer of a template "), 1<<18)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	upload(t, push, bytes.NewReader(blob), digest)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%[1]q,"size":%[2]d},"layers":[{"mediaType":"application/octet-stream","digest":%[1]q,"size":%[2]d}]}`, digest, len(blob))
	mustDo(t, http.MethodPut, push+"/v2/demo/manifests/v1", manifest, http.StatusCreated)
	for _, p := range n.of("registry") {
		waitFor(t, p.name+" has copied", func() error {
			return do(httpClient, http.MethodGet, "http://"+p.ports["http"]+"/v2/demo/manifests/v1", "", nil, http.StatusOK)
		})
	}

	c := newClients()
	var created atomic.Int64
	c.run("read", func(hc *http.Client) error {
		return do(hc, http.MethodGet, controllers+"/api/v1/vm", "", nil, http.StatusOK)
	})
	c.run("keyed write", func(hc *http.Client) error {
		i := created.Add(1)
		return do(hc, http.MethodPost, controllers+"/api/v1/group", fmt.Sprintf(`{"name":"keyed-%d"}`, i),
			map[string]string{"Idempotency-Key": fmt.Sprintf("%s-%d", n.name, i)}, http.StatusOK)
	})
	c.run("write without a key", func(hc *http.Client) error {
		return do(hc, http.MethodPost, controllers+"/api/v1/group", fmt.Sprintf(`{"name":"plain-%d"}`, created.Add(1)), nil, http.StatusOK)
	})
	c.run("pull", func(hc *http.Client) error {
		return do(hc, http.MethodGet, replicas+"/v2/demo/blobs/"+digest, "", nil, http.StatusOK)
	})

	// A Deployment with maxSurge 1 and maxUnavailable 0: the new one first.
	for _, old := range n.of("controller") {
		fresh := &pod{name: old.name + "-new", template: old.template}
		n.add(fresh)
		fresh.start()
		fresh.waitReady()
		n.publish(everyPod)
		old.terminate()
		c.progress(t)
	}
	// StatefulSets: the same name and volumes again.
	for _, component := range []string{"registry", "etcd"} {
		for _, p := range n.of(component) {
			p.terminate()
			p.start()
			p.waitReady()
			n.publish(everyPod)
			c.progress(t)
		}
	}
	c.stop(t)

	// The push registry is one: what is under way when it is told to end is
	// finished, however slow.
	p := n.of("push-registry")[0]
	slow := bytes.Repeat([]byte("another layer that comes slowly "), 1<<16)
	started := make(chan struct{})
	body := &slowly{r: bytes.NewReader(slow), pause: 50 * time.Millisecond, started: started}
	var wg sync.WaitGroup
	wg.Go(func() { upload(t, push, body, fmt.Sprintf("sha256:%x", sha256.Sum256(slow))) })
	<-started
	p.terminate()
	wg.Wait()
	p.start()
	p.waitReady()
	n.publish(everyPod)
	mustDo(t, http.MethodHead, push+"/v2/demo/manifests/v1", "", http.StatusOK)
}

// TestSharedRegistriesRunAsRendered does the same for the other mode, with
// several servers on one volume and a single etcd member.
func TestSharedRegistriesRunAsRendered(t *testing.T) {
	n := newNode(t)
	n.install(map[string]any{"registry": map[string]any{"replicas": 2}, "etcd": map[string]any{"replicas": 1},
		"controller": map[string]any{"replicas": 2, "exposure": "perPod", "perPod": map[string]any{"url": "http://controller-{index}.example.com"}}})
	registry := n.serviceURL("cloud-ankacluster-registry")

	// Each controller has a service of its own, and the cloud's list names each as Macs reach it.
	for i := range 2 {
		url := n.serviceURL(fmt.Sprintf("cloud-ankacluster-controller-%d", i))
		waitFor(t, "both controllers are in the list", func() error {
			list, err := get(httpClient, url+"/api/v1/cluster")
			for _, name := range []string{"http://controller-0.example.com", "http://controller-1.example.com"} {
				if err == nil && !strings.Contains(list, name) {
					err = fmt.Errorf("%s is not in %s", name, list)
				}
			}
			return err
		})
	}
	n.helmTest()
	for _, p := range n.of("etcd") {
		if page, err := get(httpClient, "http://"+p.ports["metrics"]+"/metrics"); err != nil || !strings.Contains(page, "etcd_server_has_leader") {
			t.Errorf("etcd's metrics: %v\n%.300s", err, page)
		}
	}
	c := newClients()
	var count atomic.Int64
	c.run("push", func(hc *http.Client) error {
		blob := []byte(fmt.Sprintf("layer %d of %s", count.Add(1), n.name))
		return tryUpload(hc, registry, bytes.NewReader(blob), fmt.Sprintf("sha256:%x", sha256.Sum256(blob)))
	})
	for _, p := range n.of("registry") {
		p.terminate()
		p.start()
		p.waitReady()
		n.publish(everyPod)
		c.progress(t)
	}
	c.stop(t)
	for _, component := range []string{"controller", "etcd"} {
		for _, p := range n.of(component) {
			p.terminate()
		}
	}
}

// clients go on until they are stopped, and remember what failed.
type clients struct {
	quit chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	done   map[string]int // guarded by mu
	failed []string       // guarded by mu
}

func newClients() *clients { return &clients{quit: make(chan struct{}), done: make(map[string]int)} }

// run lets a client of its own do something again and again. It has its own
// connection, which it uses so often that none idles while a pod drains.
func (c *clients) run(kind string, once func(*http.Client) error) {
	c.wg.Go(func() {
		hc := &http.Client{Timeout: patience, Transport: &http.Transport{}}
		defer hc.CloseIdleConnections()
		for {
			select {
			case <-c.quit:
				return
			case <-time.After(40 * time.Millisecond): // a pace
			}
			began := time.Now()
			err := once(hc)
			c.mu.Lock()
			c.done[kind]++
			if err != nil {
				c.failed = append(c.failed, fmt.Sprintf("%s at %s after %s: %v", kind, began.Format(time.TimeOnly+".000"), time.Since(began), err))
			}
			c.mu.Unlock()
		}
	})
}

// progress waits until every client has got on.
func (c *clients) progress(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	before := make(map[string]int)
	for kind, n := range c.done {
		before[kind] = n
	}
	c.mu.Unlock()
	waitFor(t, "every client gets on", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for kind, n := range before {
			if c.done[kind] < n+5 {
				return fmt.Errorf("%s: %d of 5", kind, c.done[kind]-n)
			}
		}
		return nil
	})
}

func (c *clients) stop(t *testing.T) {
	t.Helper()
	close(c.quit)
	c.wg.Wait()
	for kind, n := range c.done {
		t.Logf("%s: %d", kind, n)
	}
	for _, f := range c.failed {
		t.Errorf("lost: %s", f)
	}
}

func waitFor(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

var httpClient = &http.Client{Timeout: patience}

func do(hc *http.Client, method, url, body string, header map[string]string, want int) error {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if strings.Contains(url, "/manifests/") {
		req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s, want %d: %.200s, %w", method, url, resp.Status, want, text, err)
	}
	return nil
}

// get returns the body of a 200.
func get(hc *http.Client, url string) (string, error) {
	resp, err := hc.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, resp.Status, body)
	}
	return string(body), err
}

func mustDo(t *testing.T, method, url, body string, want int) {
	t.Helper()
	if err := do(httpClient, method, url, body, nil, want); err != nil {
		t.Fatal(err)
	}
}

// tryUpload sends a blob in one request after the one that opens the upload.
func tryUpload(hc *http.Client, registry string, body io.Reader, digest string) error {
	resp, err := hc.Post(registry+"/v2/demo/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	location, err := resp.Location()
	if err != nil {
		return fmt.Errorf("begin an upload: %s: %w", resp.Status, err)
	}
	q := location.Query()
	q.Set("digest", digest)
	location.RawQuery = q.Encode()
	req, err := http.NewRequest(http.MethodPut, location.String(), body)
	if err != nil {
		return err
	}
	resp, err = hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("PUT %s: %s: %.200s, %w", location, resp.Status, text, err)
	}
	return nil
}

func upload(t *testing.T, registry string, body io.Reader, digest string) {
	t.Helper()
	if err := tryUpload(httpClient, registry, body, digest); err != nil {
		t.Error(err)
	}
}

// slowly is a body that takes seconds.
type slowly struct {
	r       *bytes.Reader
	pause   time.Duration
	started chan struct{}
	once    sync.Once
}

func (s *slowly) Read(b []byte) (int, error) {
	n, err := s.r.Read(b[:min(len(b), 16<<10)])
	if s.r.Len() < int(s.r.Size())*9/10 {
		s.once.Do(func() { close(s.started) })
	}
	time.Sleep(s.pause) // the slow line that is played
	return n, err
}
