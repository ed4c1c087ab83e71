package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// memory stands for etcd: what the fakes remember together. Registering a key
// and running the write is one step, as it is in one transaction of etcd.
type memory struct {
	mu       sync.Mutex
	ranBy    map[string]string // idempotency key -> backend; guarded by mu
	effects  map[string]int    // request id -> times run; guarded by mu
	absorbed int               // guarded by mu
}

func newMemory() *memory {
	return &memory{ranBy: make(map[string]string), effects: make(map[string]int)}
}

func (m *memory) apply(a application) applied {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Key != "" {
		if by, ok := m.ranBy[a.Key]; ok {
			m.absorbed++
			return applied{Backend: by, Earlier: true}
		}
		m.ranBy[a.Key] = a.Backend
	}
	m.effects[a.Request]++
	return applied{Backend: a.Backend}
}

func (m *memory) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apply", func(w http.ResponseWriter, r *http.Request) {
		var a application
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(m.apply(a))
	})
	mux.HandleFunc("GET /ledger", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		body, err := json.Marshal(ledger{Effects: m.effects, Absorbed: m.absorbed})
		m.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(body)
	})
	return mux
}

// memoryClient speaks to the memory over its Unix socket, which, unlike
// loopback, is also reachable from inside a network namespace.
type memoryClient struct{ http *http.Client }

func newMemoryClient(socket string) *memoryClient {
	return &memoryClient{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 256,
	}}}
}

func (c *memoryClient) apply(ctx context.Context, a application) (applied, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return applied{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://memory/apply", bytes.NewReader(body))
	if err != nil {
		return applied{}, err
	}
	var out applied
	return out, c.do(req, &out)
}

func (c *memoryClient) ledger(ctx context.Context) (ledger, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://memory/ledger", nil)
	if err != nil {
		return ledger{}, err
	}
	var out ledger
	return out, c.do(req, &out)
}

func (c *memoryClient) do(req *http.Request, out any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("memory answered %s", resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
