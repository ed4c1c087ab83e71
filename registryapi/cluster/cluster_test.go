package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

func TestPushToAnyHostIsKnownToAll(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	var want []string
	for i, h := range c.hosts {
		repo := fmt.Sprintf("vm%d", i)
		_, data := h.push(repo, "v1", 6<<20)
		want = append(want, repo)
		for _, o := range c.hosts {
			got, err := o.names()
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s lists %v, %v after a push to %s", o.name, got, err, h.name)
			}
			if pulled, err := o.pull(repo, "v1"); err != nil || !bytes.Equal(pulled, data) {
				t.Fatalf("%s gives %d bytes, %v", o.name, len(pulled), err)
			}
		}
	}
}

// An acknowledged push survives the loss of the host that took it, disk included.
func TestAcknowledgedPushSurvivesItsHost(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	for i, h := range c.hosts {
		repo := fmt.Sprintf("vm%d", i)
		d, data := h.push(repo, "v1", 9<<20)
		h.stop()
		h.wipe()
		for _, o := range c.hosts {
			if o == h {
				continue
			}
			if names, err := o.names(); err != nil || !slices.Contains(names, repo) {
				t.Fatalf("%s lists %v, %v", o.name, names, err)
			}
			if pulled, err := o.pull(repo, "v1"); err != nil || !bytes.Equal(pulled, data) {
				t.Fatalf("%s gives %d bytes, %v", o.name, len(pulled), err)
			}
		}
		h.start()
		h.ready()
		// It serves at once what it has not, and copies by itself.
		if pulled, err := h.pull(repo, "v1"); err != nil || !bytes.Equal(pulled, data) {
			t.Fatalf("%s with an empty disk gives %d bytes, %v", h.name, len(pulled), err)
		}
		eventually(t, "all copies back", func() error {
			if !h.has(repo, d) {
				return errors.New("not here yet")
			}
			return nil
		})
		c.allLive()
		eventually(t, "all hosts have all", func() error {
			list, err := registryapi.NewClient(h.url(), plain).Copies(t.Context())
			if err != nil {
				return err
			}
			for _, tc := range list {
				if len(tc.Hosts) != 3 {
					return fmt.Errorf("%s:%s is at %v", tc.Repository, tc.Tag, tc.Hosts)
				}
			}
			return nil
		})
	}
}

// At the moment of the answer two disks have all of it, wherever its requests
// went.
func TestRequestsOfAPushMayGoToAnyHost(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	turn := &roundRobin{hosts: c.hosts}
	client, err := transfer.New(transfer.Config{Base: "http://pool", HTTP: &http.Client{Transport: turn}, Chunk: 3 << 20, Parallel: 2})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		data := noise(20<<20 + n)
		config := fmt.Appendf(nil, `{"name":"vm","n":%d}`, n)
		var descs []ispec.Descriptor
		for _, b := range [][]byte{config, data} {
			desc := ispec.Descriptor{MediaType: registryapi.MediaTypeVMFile, Digest: digest.FromBytes(b), Size: int64(len(b))}
			if err := client.Upload(t.Context(), "vm", desc, bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			descs = append(descs, desc)
		}
		raw := manifest(descs[0], descs[1], "spread")
		c.hosts[n%3].want(http.StatusCreated, "PUT", fmt.Sprintf("/v2/vm/manifests/v%d", n), raw, "Content-Type", ispec.MediaTypeImageManifest)
		disks := 0
		for _, h := range c.hosts {
			if h.staged("vm", raw) {
				disks++
			}
		}
		if disks < 2 {
			t.Errorf("push %d was acknowledged with all of it on %d disks", n, disks)
		}
	}
}

// roundRobin sends each request to another host.
type roundRobin struct {
	hosts []*host
	n     atomic.Int64
}

func (r *roundRobin) RoundTrip(req *http.Request) (*http.Response, error) {
	u := *req.URL
	u.Host = r.hosts[int(r.n.Add(1))%len(r.hosts)].addr
	out := req.Clone(req.Context())
	out.URL, out.Host = &u, ""
	return http.DefaultTransport.RoundTrip(out)
}

// A push to a host that reaches no other is taken after a short wait, shown as
// having few copies, and copied when it can be.
func TestPushWithoutOtherHosts(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprint("strict ", strict), func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, 3, func(cfg *Config) { cfg.Strict = strict })
			h := c.hosts[0]
			for _, o := range c.hosts[1:] {
				o.http.Close() // etcd still sees it
			}
			data := noise(1 << 20)
			raw := manifest(h.pushBlob("vm", []byte(`{"name":"vm"}`)), h.pushBlob("vm", data), "alone")
			a, err := h.try("PUT", "/v2/vm/manifests/v1", raw, "Content-Type", ispec.MediaTypeImageManifest)
			if err != nil {
				t.Fatal(err)
			}
			if strict {
				if a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "only 1 of the 2 hosts") {
					t.Errorf("got %d %s", a.status, a.body)
				}
				if names, err := h.names(); err != nil || len(names) > 0 {
					t.Errorf("lists %v, %v", names, err)
				}
				return
			}
			if a.status != http.StatusCreated {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			st, err := registryapi.NewClient(h.url(), plain).Status(t.Context())
			if err != nil || st.Cluster == nil || st.Cluster.FewCopies != 1 {
				t.Errorf("status: %+v, %v", st.Cluster, err)
			}
			for _, o := range c.hosts[1:] {
				o.stop()
				o.start()
			}
			eventually(t, "copied", func() error {
				if st := h.cl.State(t.Context()); st.FewCopies > 0 {
					return fmt.Errorf("%+v", st)
				}
				return nil
			})
		})
	}
}

func TestConfigTogether(t *testing.T) {
	t.Parallel()
	err := Config{URL: "10.0.1.4:8089", Copies: 0, HTTP: &http.Client{Timeout: time.Second}}.Validate()
	for _, want := range []string{`URL "10.0.1.4:8089"`, "no name", "0 hosts", "0 copies", "patience", "timeout of 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// Without etcd, content by digest is served, and look-ups by name say within a
// bounded time that they cannot be answered.
func TestHostWithoutEtcd(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	d, data := c.hosts[0].push("vm", "v1", 1<<20)
	h := c.hosts[0]
	eventually(t, "copied", func() error {
		if !h.has("vm", d) {
			return errors.New("not yet")
		}
		return nil
	})
	h.setCut(true)
	h.want(http.StatusOK, "GET", "/v2/vm/blobs/"+digest.FromBytes(data).String(), nil)
	h.want(http.StatusOK, "GET", "/v2/vm/manifests/"+d.String(), nil)
	for _, path := range []string{"/v2/vm/manifests/v1", "/v2/vm/tags/list", "/registry/v2/vm", "/v2/vm/manifests/other", "/v2/_catalog"} {
		h.want(http.StatusServiceUnavailable, "GET", path, nil)
	}
	h.want(http.StatusServiceUnavailable, "DELETE", "/v2/vm/manifests/v1", nil)
	// The others go on, and what they delete does not come back with the host.
	c.hosts[1].want(http.StatusAccepted, "DELETE", "/v2/vm/manifests/"+d.String(), nil)
	h.setCut(false)
	eventually(t, "deleted at the host that was cut off", func() error {
		names, err := h.names()
		if err == nil && len(names) > 0 {
			t.Fatalf("%s lists %v", h.name, names)
		}
		return err
	})
	eventually(t, "deleted in its directory", func() error {
		if tags, err := h.store.Tags("vm"); err != nil || len(tags) > 0 {
			return fmt.Errorf("%v %v", tags, err)
		}
		return nil
	})
}

// Directories that were islands are merged, by a rule that does not depend on
// which host comes first.
func TestIslandsAreTakenIn(t *testing.T) {
	t.Parallel()
	for _, reverse := range []bool{false, true} {
		t.Run(fmt.Sprint("reverse ", reverse), func(t *testing.T) {
			t.Parallel()
			c := &cloud{t: t, etcd: startEtcd(t)}
			old := time.Now().Add(-time.Hour)
			var newer digest.Digest
			for i := range 2 {
				h := &host{c: c, name: fmt.Sprint("host", i), root: t.TempDir()}
				store, err := fs.Open(h.root, fs.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				config, layer := []byte(`{"name":"vm"}`), fmt.Appendf(nil, "layer %d", i)
				for _, b := range [][]byte{config, layer} {
					if err := content.PutBlob(store, "vm", digest.FromBytes(b), b); err != nil {
						t.Fatal(err)
					}
				}
				raw := manifest(ispec.Descriptor{Digest: digest.FromBytes(config), Size: int64(len(config))},
					ispec.Descriptor{Digest: digest.FromBytes(layer), Size: int64(len(layer))}, h.name)
				m := content.Manifest{Digest: digest.FromBytes(raw), MediaType: ispec.MediaTypeImageManifest, Raw: raw, Pushed: old.Add(time.Duration(i) * time.Minute)}
				if err := store.PutManifest("vm", m, "v1", fmt.Sprint("only", i)); err != nil {
					t.Fatal(err)
				}
				newer = m.Digest
				c.hosts = append(c.hosts, h)
			}
			order := slices.Clone(c.hosts)
			if reverse {
				slices.Reverse(order)
			}
			for _, h := range order {
				h.start()
				h.ready()
			}
			for _, h := range c.hosts {
				a := h.want(http.StatusOK, "HEAD", "/v2/vm/manifests/v1", nil)
				if got := a.header.Get("Docker-Content-Digest"); got != newer.String() {
					t.Errorf("%s has %s, want the later push", h.name, got)
				}
				for i := range 2 {
					if _, err := h.pull("vm", fmt.Sprint("only", i)); err != nil {
						t.Error(err)
					}
				}
			}
			// A directory that belongs to the catalogue follows it: what was
			// deleted while it was down is gone.
			c.allLive()
			c.hosts[0].stop()
			c.hosts[1].want(http.StatusAccepted, "DELETE", "/v2/vm/manifests/only0", nil)
			c.hosts[0].start()
			c.hosts[0].ready()
			c.hosts[0].want(http.StatusNotFound, "GET", "/v2/vm/manifests/only0", nil)
			eventually(t, "its directory follows", func() error {
				if _, err := c.hosts[0].store.Tag("vm", "only0"); !errors.Is(err, content.ErrTagUnknown) {
					return fmt.Errorf("got %v", err)
				}
				return nil
			})
		})
	}
}

// The collector of one host keeps what another host is being sent, and what the
// catalogue refers to.
func TestCollectorKeepsWhatOthersNeed(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	a, b := c.hosts[0], c.hosts[1]
	orphan := b.pushBlob("vm", noise(1000))
	// A push to the repository is under way at another host.
	up := a.want(http.StatusAccepted, "POST", "/v2/vm/blobs/uploads/", nil)
	a.want(http.StatusAccepted, "PATCH", up.header.Get("Location"), noise(100))
	collect := func() {
		t.Helper()
		opt, err := b.cl.Collect(t.Context(), content.CollectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.Collect(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	b.want(http.StatusOK, "HEAD", "/v2/vm/blobs/"+orphan.Digest.String(), nil)
	a.want(http.StatusNoContent, "DELETE", up.header.Get("Location"), nil)
	collect()
	if _, err := b.store.StatBlob("vm", orphan.Digest); !errors.Is(err, content.ErrBlobUnknown) {
		t.Errorf("without a push under way: %v", err)
	}
	d, _ := a.push("vm", "v1", 1<<20)
	for range 3 { // while it is copied, and after it
		collect()
	}
	eventually(t, "copied", func() error {
		if !b.has("vm", d) {
			return errors.New("not yet")
		}
		return nil
	})
	collect()
	if !b.has("vm", d) {
		t.Error("collected")
	}
}

// A host that has content of no push is asked by nobody for it, and what no host
// has is refused.
func TestManifestOfMissingContentIsRefused(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 2, nil)
	h := c.hosts[0]
	gone := ispec.Descriptor{Digest: digest.FromString("never pushed"), Size: 12}
	raw := manifest(h.pushBlob("vm", []byte(`{}`)), gone, "")
	a := h.want(http.StatusBadRequest, "PUT", "/v2/vm/manifests/v1", raw, "Content-Type", ispec.MediaTypeImageManifest)
	if !strings.Contains(string(a.body), "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("%s", a.body)
	}
	h.want(http.StatusNotFound, "HEAD", "/v2/vm/blobs/"+gone.Digest.String(), nil)
}

// A read of what only another host has goes on when that host dies, if a third
// has it.
func TestReadGoesOnAtAThirdHost(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, func(cfg *Config) { cfg.Copies = All })
	_, data := c.hosts[0].push("vm", "v1", 48<<20)
	reader := c.hosts[2]
	reader.stop()
	reader.wipe()
	reader.start()
	reader.ready()
	req, err := http.NewRequestWithContext(t.Context(), "GET", reader.url()+"/v2/vm/blobs/"+digest.FromBytes(data).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got bytes.Buffer
	if _, err := io.CopyN(&got, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	c.hosts[0].stop()
	if _, err := io.Copy(&got, resp.Body); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Fatalf("got %d of %d bytes, %v", got.Len(), len(data), err)
	}
}

func TestUploadOfAHostThatIsGoneBeginsAnew(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	a, b := c.hosts[0], c.hosts[1]
	loc := a.want(http.StatusAccepted, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	data := noise(1000)
	b.want(http.StatusAccepted, "PATCH", loc, data[:400])
	if n := b.want(http.StatusNoContent, "GET", loc, nil).header.Get(registryapi.HeaderUploadOffset); n != "400" {
		t.Errorf("offset %s", n)
	}
	b.want(http.StatusCreated, "PUT", loc+"?digest="+url.QueryEscape(digest.FromBytes(data).String()), data[400:])
	loc = a.want(http.StatusAccepted, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	a.stop()
	eventually(t, "the host is known to be gone", func() error {
		got, err := b.try("PATCH", loc, data)
		if err == nil && got.status != http.StatusNotFound {
			err = fmt.Errorf("got %d %s", got.status, got.body)
		}
		return err
	})
}

func TestHostsAgreeOnHomes(t *testing.T) {
	t.Parallel()
	stores := []string{"a", "b", "c", "d"}
	taken := make(map[string]int)
	for i := range 400 {
		repo := fmt.Sprint("vm", i)
		var first []string
		for _, self := range stores {
			var others []*peer
			for _, s := range stores {
				if s != self {
					others = append(others, &peer{store: s})
				}
			}
			got := homes(repo, self, others, 2)
			if first == nil {
				first = got
			}
			if !slices.Equal(got, first) {
				t.Fatalf("%s: %s says %v, another %v", repo, self, got, first)
			}
		}
		for _, s := range first {
			taken[s]++
		}
	}
	for _, s := range stores {
		if taken[s] < 120 || taken[s] > 280 {
			t.Errorf("%s is home of %d of 400", s, taken[s])
		}
	}
}
