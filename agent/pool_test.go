package agent

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/faultnet"
)

// Controllers that are late to answer, as those of a large cloud while it comes
// up, get each heartbeat once: copies would make them later.
func TestLateHeartbeatsAreNotCopied(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		network := faultnet.New()
		var mu sync.Mutex
		arrived := make(map[string]int)
		late := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == controllerapi.PathAgentSync || r.URL.Path == controllerapi.PathAgentRegister {
				mu.Lock()
				arrived[r.URL.Path]++
				mu.Unlock()
				time.Sleep(900 * time.Millisecond)
			}
			s.cloud.handler().ServeHTTP(w, r)
		})
		var servers sync.WaitGroup
		defer servers.Wait()
		for _, host := range []string{"a", "b", "c"} {
			l, err := network.Listen(host + ":80")
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: late}
			servers.Go(func() { _ = srv.Serve(l) }) // ends with Close
			defer srv.Close()
		}
		cfg := balancer.DefaultConfig()
		cfg.DialContext = network.DialContext
		pool, err := balancer.New(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.SetMembers(balancer.OriginJoin, []string{"http://a", "http://b", "http://c"}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		servers.Go(func() { _ = pool.Run(ctx) }) // nil, when ctx ends
		defer stop()

		s.over = controllerapi.NewClient("http://pool", pool.Client())
		s.up()
		time.Sleep(5 * time.Minute)
		s.down()
		s.cloud.mu.Lock()
		defer s.cloud.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		if len(s.cloud.syncs) < 50 {
			t.Fatalf("%d heartbeats in five minutes", len(s.cloud.syncs))
		}
		seqs := make(map[int64]bool)
		for _, sync := range s.cloud.syncs {
			seqs[sync.req.Seq] = true
		}
		if got, want := arrived[controllerapi.PathAgentSync], len(seqs); got != want {
			t.Errorf("%d heartbeats arrived as %d requests", want, got)
		}
		if got := arrived[controllerapi.PathAgentRegister]; got != 1 {
			t.Errorf("one registration arrived as %d requests", got)
		}
	})
}
