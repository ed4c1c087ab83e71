package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/access"
	"go.etcd.io/etcd/client/v3"
)

func TestKeyedWriteSentManyTimesRunsOnce(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	for round := range 10 {
		key := "key-" + string(rune('a'+round))
		answers := make([]string, 9)
		var wg sync.WaitGroup
		for k := range answers {
			wg.Go(func() {
				_, answers[k] = do(t, "POST", c.controllers[k%3].URL+"/api/v1/vm", `{"vmid":"tpl-1","count":3,"external_id":"`+key+`"}`, api.IdempotencyHeader, key)
			})
		}
		wg.Wait()
		for _, a := range answers {
			if a != answers[0] || !strings.Contains(a, `"OK"`) {
				t.Fatalf("answers differ: %s and %s", a, answers[0])
			}
		}
		_, list := do(t, "GET", c.controllers[0].URL+"/api/v1/vm", "")
		if n := strings.Count(list, `"external_id":"`+key+`","name"`); n != 3 {
			t.Fatalf("%d instances of one request for 3", n)
		}
	}
}

func TestFirstAnswerIsKept(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	a, b := c.controllers[0].URL, c.controllers[1].URL
	for _, tc := range []struct{ name, method, path, body string }{
		{"a group", "POST", "/api/v1/group", `{"name":"g"}`},
		{"a revert of the latest", "DELETE", "/api/v1/registry/revert?id=tpl-1", ``},
	} {
		_, first := do(t, tc.method, a+tc.path, tc.body, api.IdempotencyHeader, tc.name)
		c.registry.set(func(f *fakeRegistry) { f.templates[0].Versions = f.templates[0].Versions[:1] })
		_, again := do(t, tc.method, b+tc.path, tc.body, api.IdempotencyHeader, tc.name)
		if first != again {
			t.Errorf("%s: first %s, then %s", tc.name, first, again)
		}
	}
	c.registry.set(func(f *fakeRegistry) {
		reverts := 0
		for _, call := range f.calls {
			if strings.HasPrefix(call, "DELETE /registry/revert") {
				reverts++
			}
		}
		if reverts != 1 {
			t.Errorf("the registry was asked to revert %d times", reverts)
		}
	})
	code, body := do(t, "POST", a+"/api/v1/group", `{"name":"other"}`, api.IdempotencyHeader, "a group")
	if code != 422 || !strings.Contains(body, "another request") {
		t.Errorf("key used for another request: %d %s", code, body)
	}
}

// What is refused leaves nothing in etcd, however often and however long it is.
func TestRefusalsAreNotKept(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	url := c.controllers[0].URL
	long := strings.Repeat("x", 900<<10)
	for _, tc := range []struct{ method, path, body string }{
		{"POST", "/api/v1/vm", `{"vmid":"not-there"}`},
		{"POST", "/api/v1/vm", `{"vmid":"tpl-1","network_mode":"` + long + `"}`},
		{"POST", "/api/v1/group", `{"name":"` + long + `"}`},
		{"DELETE", "/api/v1/vm", `{"id":"none"}`},
	} {
		if _, body := do(t, tc.method, url+tc.path, tc.body, api.IdempotencyHeader, tc.path+tc.method); !strings.Contains(body, "FAIL") || len(body) > 2000 {
			t.Errorf("%s %s: got %.200s", tc.method, tc.path, body)
		}
	}
	resp, err := c.etcd.Get(t.Context(), "/ankacluster/u/idem/", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 0 {
		t.Errorf("%d keys are kept: %v", len(resp.Kvs), err)
	}
	// The same key is good for what is possible.
	if _, body := do(t, "POST", url+"/api/v1/group", `{"name":"g"}`, api.IdempotencyHeader, "/api/v1/groupPOST"); !strings.Contains(body, `"OK"`) {
		t.Error(body)
	}
}

// The last part of etcd's room is for nodes, claims and ends.
func TestCallsOfClientsLeaveRoomInEtcd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		inUse, quota int64
		full         bool
	}{{0, 0, false}, {79 << 20, 100 << 20, false}, {81 << 20, 100 << 20, true}, {101 << 20, 100 << 20, true}} {
		if got := fullness(tc.inUse, tc.quota); (got != "") != tc.full {
			t.Errorf("%d of %d: got %q", tc.inUse, tc.quota, got)
		}
	}
	s := offline(t, access.Guard{})
	s.health.last.Store(&finding{at: time.Now(), full: fullness(9, 10)})
	gone, leave := context.WithTimeout(t.Context(), time.Minute)
	defer leave()
	for _, r := range s.routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		if method != http.MethodPost && method != http.MethodPut {
			continue
		}
		answer := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(gone, method, path, strings.NewReader("["))
		r.Handler.ServeHTTP(answer, req)
		refused := strings.Contains(answer.Body.String(), "nothing new is taken")
		if want := !r.Nodes && !strings.HasSuffix(path, "/why"); refused != want { // that one changes nothing
			t.Errorf("%s: refused %t, want %t: %s", r.Pattern, refused, want, answer.Body)
		}
	}
}

// The promise is 24 hours, and no key stays for ever.
func TestKeyIsKeptForADay(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	do(t, "POST", c.controllers[0].URL+"/api/v1/group", `{"name":"g"}`, api.IdempotencyHeader, "key")
	resp, err := c.etcd.Get(t.Context(), "/ankacluster/u/idem/", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%v %v", resp, err)
	}
	lease, err := c.etcd.TimeToLive(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease))
	if left := time.Duration(lease.TTL) * time.Second; err != nil || left < 24*time.Hour || left > 25*time.Hour {
		t.Errorf("the key lives for %v (%v)", left, err)
	}
}

func TestLargeStartIsWholeAndOnce(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	body := `{"vmid":"tpl-1","count":400}`
	_, first := do(t, "POST", c.controllers[0].URL+"/api/v1/vm", body, api.IdempotencyHeader, "big")
	_, again := do(t, "POST", c.controllers[1].URL+"/api/v1/vm", body, api.IdempotencyHeader, "big")
	if first != again {
		t.Error("answers differ")
	}
	list, err := c.controllers[1].client().Instances(t.Context())
	if err != nil || len(list) != 400 {
		t.Errorf("%d instances, %v", len(list), err)
	}
	if _, got := do(t, "POST", c.controllers[0].URL+"/api/v1/vm", `{"vmid":"tpl-1","count":1001}`); !strings.Contains(got, "from 1 to 1000") {
		t.Error(got)
	}
}

// A hedged start goes on though its sender has an answer from elsewhere and is
// gone: what was begun is whole at once, and not when the keeper finds it.
func TestLargeStartGoesOnThoughItsSenderIsGone(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, func(cfg *Config) { cfg.EtcdTimeout = time.Hour }) // the keeper waits as long
	const count = 500
	ctx, gone := context.WithCancel(t.Context())
	defer gone()
	begun := c.etcd.Watch(ctx, "/ankacluster/s/batch/", clientv3.WithPrefix(), clientv3.WithFilterDelete())
	go func() {
		<-begun
		gone()
	}()
	// The answer is lost, or just made it.
	_, _ = c.controllers[0].client().Start(ctx, api.StartRequest{VMID: "tpl-1", Count: new(count)})
	eventually(t, "all instances are there", func() bool {
		list, err := c.controllers[0].client().Instances(t.Context())
		return err == nil && len(list) == count
	})
}

// A request that is cut on its way is not one that is too long, and is not kept.
func TestKeyedWriteThatIsCutMayBeSentAgain(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	url := c.controllers[0].URL
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	const body = `{"name":"g"}`
	_, _ = fmt.Fprintf(conn, "POST /api/v1/group HTTP/1.1\r\nHost: x\r\nIdempotency-Key: cut\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n%s\r\nzz\r\n", body[:3])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "could not be read") {
		t.Errorf("a cut request: %d %s", resp.StatusCode, text)
	}
	if code, got := do(t, "POST", url+"/api/v1/group", body, api.IdempotencyHeader, "cut"); code != 200 || !strings.Contains(got, `"OK"`) {
		t.Errorf("sent again: %d %s", code, got)
	}
}
