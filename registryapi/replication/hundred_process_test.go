package replication

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// R9: a hundred templates are pushed and some deleted, while two replicas are
// looked at all the time.
func TestHundredTemplatesReachTwoReplicas(t *testing.T) {
	push := start(t, options{})
	// Who is not told of pushes hears of them once in 50 s, the longest poll.
	rarely := func(c *Config) { c.Poll = time.Minute }
	replicas := []*registry{start(t, options{sources: []string{push.url}, config: rarely}), start(t, options{sources: []string{push.url}, config: rarely})}
	for _, r := range replicas {
		eventually(t, "in sync", func() bool { return r.rep.State().InSync })
	}
	var mu sync.Mutex
	var lags []time.Duration
	stop := make(chan struct{})
	var watchers sync.WaitGroup
	for _, r := range replicas {
		watchers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					checkListed(t, r)
				}
			}
		})
	}
	var pushers sync.WaitGroup
	for worker := range 4 {
		pushers.Go(func() {
			for i := worker; i < 100; i += 4 {
				repo := fmt.Sprintf("team/t%d", i)
				d, err := push.tryPush(repo, "v1", noise(20_000))
				if err != nil {
					t.Error(err)
					return
				}
				acked := time.Now()
				for _, r := range replicas {
					for {
						st, err := r.rest.Repository(context.Background(), repo)
						if err != nil {
							t.Error(err)
							return
						}
						if len(st.Tags) == 1 && st.Tags[0].Digest == d.String() {
							break
						}
						if time.Since(acked) > 3*time.Minute {
							t.Errorf("%s never reached a replica", repo)
							return
						}
						time.Sleep(2 * time.Millisecond)
					}
				}
				mu.Lock()
				lags = append(lags, time.Since(acked))
				mu.Unlock()
				if i%3 == 0 {
					if err := push.oci.DeleteManifest(context.Background(), repo, "v1"); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	pushers.Wait()
	converge(t, push, replicas...)
	close(stop)
	watchers.Wait()
	for _, r := range replicas {
		if err := r.pullsEverything(); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(lags)
	if len(lags) != 100 {
		t.Fatalf("%d of 100 templates arrived", len(lags))
	}
	t.Logf("from the push's answer to both replicas: median %s, 95th %s, worst %s", lags[50], lags[95], lags[99])
	if lags[95] > 30*time.Second { // the promise is 1 s; a busy machine must not fail the test
		t.Errorf("95th of 100 took %s", lags[95])
	}
}
