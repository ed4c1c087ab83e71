package etcdmember

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/internal/backoff"
)

// freezer is a TCP proxy that can stop passing bytes on, without closing
// anything: a process that was paused, a host that was cut off.
type freezer struct {
	net.Listener
	target string

	mu     sync.Mutex
	thawed chan struct{} // closed while bytes pass; guarded by mu
}

func newFreezer(t *testing.T, target string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{Listener: l, target: target, thawed: make(chan struct{})}
	close(f.thawed)
	t.Cleanup(func() { f.thaw(); l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", f.target)
			if err != nil {
				in.Close()
				continue
			}
			go f.pass(in, out)
			go f.pass(out, in)
		}
	}()
	return f
}

func (f *freezer) pass(from, to net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		f.mu.Lock()
		thawed := f.thawed
		f.mu.Unlock()
		<-thawed
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}

func (f *freezer) freeze() {
	f.mu.Lock()
	f.thawed = make(chan struct{})
	f.mu.Unlock()
}

func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.thawed:
	default:
		close(f.thawed)
	}
}

// TestHungMemberIsLeft is F11 for a member that keeps its connections and
// answers nothing: a call and a watch that hang there go on elsewhere, far sooner
// than by gRPC's own keep-alive.
func TestHungMemberIsLeft(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	c.settled(3)
	var proxies []*freezer
	var endpoints []string
	for _, cfg := range c.configs {
		p := newFreezer(t, cfg.ClientListen)
		proxies = append(proxies, p)
		endpoints = append(endpoints, "http://"+p.Addr().String())
	}
	client, err := Connect(ClientConfig{Endpoints: endpoints}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	running := make(chan error, 1) // Run's one result
	runCtx, stopRun := context.WithCancel(ctx)
	go func() { running <- client.Run(runCtx) }()
	defer func() { stopRun(); <-running }()

	watch := client.Watch(clientv3.WithRequireLeader(ctx), "beat", clientv3.WithPrefix())
	for i, p := range proxies {
		before := time.Now()
		p.freeze()
		// Twice round, so that the frozen member has its turn whichever it is.
		for n := range 2 * len(proxies) {
			key := "beat" + strconv.Itoa(i) + "-" + strconv.Itoa(n)
			for {
				// The caller's own patience is longer than the stall allowed.
				err := call(ctx, func(ctx context.Context) error { _, err := client.Put(ctx, key, "x"); return err })
				if err == nil {
					break
				}
				if ctx.Err() != nil {
					t.Fatalf("member %d frozen: %v", i, err)
				}
			}
			seen := false
			for !seen {
				select {
				case resp := <-watch:
					for _, ev := range resp.Events {
						seen = seen || string(ev.Kv.Key) == key
					}
				case <-ctx.Done():
					t.Fatalf("member %d frozen: the watch has not seen %s", i, key)
				}
			}
		}
		t.Logf("member %d frozen: %d writes and their events in %s", i, 2*len(proxies), time.Since(before).Round(time.Millisecond))
		p.thaw()
		for len(client.Endpoints()) < len(proxies) {
			if !backoff.Sleep(ctx, 20*time.Millisecond) {
				t.Fatalf("member %d thawed, but it is not used again", i)
			}
		}
	}
}
