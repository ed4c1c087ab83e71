package etcdmember

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

// testDeadline bounds a wait on a loaded machine; nothing waits that long when
// all is well.
const testDeadline = 3 * time.Minute

// runningMember is a Member with its Run.
type runningMember struct {
	*Member
	stop func() error
	done chan struct{}
	err  error // valid after done
}

func runMember(t *testing.T, cfg Config) *runningMember {
	t.Helper()
	m, err := New(cfg, zaptest.NewLogger(t).Named(filepath.Base(cfg.DataDir)))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningMember{Member: m, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = m.Run(ctx)
	}()
	r.stop = func() error { cancel(); <-r.done; return r.err }
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *runningMember) waitReady(t *testing.T) {
	t.Helper()
	select {
	case <-r.Ready():
	case <-r.done:
		t.Fatalf("member ended before it was ready: %v", r.err)
	case <-time.After(testDeadline):
		t.Fatalf("member not ready after %s", testDeadline)
	}
}

func connect(t *testing.T, endpoints []string) *Client {
	t.Helper()
	c, err := Connect(ClientConfig{Endpoints: endpoints}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func aloneConfig(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), "etcd")
	cfg.ClientListen, cfg.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

func TestMemberAloneKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	cfg := aloneConfig(t)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()

	m := runMember(t, cfg)
	m.waitReady(t)
	if _, err := connect(t, m.Endpoints()).Put(ctx, "key", "value"); err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := m.stop(); err != nil {
		t.Fatalf("Run returned %v, want nil after a stop", err)
	}

	m = runMember(t, cfg)
	m.waitReady(t)
	resp, err := connect(t, m.Endpoints()).Get(ctx, "key")
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "value" {
		t.Fatalf("after the restart: got %v, %v, want value", resp, err)
	}
}

func TestSecondMemberOnTheSameDataDirNamesTheReason(t *testing.T) {
	t.Parallel()
	cfg := aloneConfig(t)
	first := runMember(t, cfg)
	first.waitReady(t)
	second := runMember(t, cfg)
	<-second.done
	if second.err == nil || !strings.Contains(second.err.Error(), "in use by another process") {
		t.Fatalf("got %v, want an error that says the directory is in use", second.err)
	}
}

func TestUnusableDataDirIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := aloneConfig(t)
	cfg.DataDir = filepath.Join(file, "etcd")
	m := runMember(t, cfg)
	<-m.done
	if m.err == nil || !strings.Contains(m.err.Error(), "--data-dir") {
		t.Fatalf("got %v, want an error that names --data-dir", m.err)
	}
}

func TestValidateNamesEveryWrongSetting(t *testing.T) {
	t.Parallel()
	err := Config{
		ClientListen: "localhost", PeerListen: "127.0.0.1:0", Self: "10.0.0.9",
		Cluster:        []Host{{"10.0.0.1", 2380}, {"10.0.0.1", 2380}},
		TLS:            TLS{CA: "/does/not/exist"},
		CompactionMode: "sometimes", DefragInterval: -1,
	}.Validate()
	if err == nil {
		t.Fatal("got nil")
	}
	for _, want := range []string{"--data-dir", "--etcd-listen-client", "--etcd-listen-peer", "--cluster names 10.0.0.1 twice", "--cluster-self",
		"--etcd-tls-ca", "--etcd-tls-cert", "--etcd-tls-key", "--etcd-quota-mb", "ANKA_AUTO_COMPACTION_MODE", "ANKA_DEFRAG_DB_INTERVAL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s:\n%v", want, err)
		}
	}
}

func TestRunEndsWhenCancelledBeforeReady(t *testing.T) {
	t.Parallel()
	m := runMember(t, aloneConfig(t))
	if err := m.stop(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want nil", err)
	}
}
