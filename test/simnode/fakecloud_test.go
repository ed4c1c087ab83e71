package simnode

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// fakeCloud is a controller in memory that can misbehave in the ways the ledger
// must notice.
type fakeCloud struct {
	mu       sync.Mutex
	nodes    map[controllerapi.NodeID]string // session
	queue    []controllerapi.Task
	claims   map[string]*controllerapi.Task // by reservation
	placed   map[controllerapi.NodeID][]controllerapi.Assignment
	removed  map[controllerapi.NodeID][]string
	reports  []controllerapi.ReportRequest
	syncs    []controllerapi.SyncRequest
	resync   bool
	generous bool // hands out a task and keeps it
	abandon  bool // answers reports with Abandon
	gen      int
}

func newFakeCloud(t *testing.T) (*fakeCloud, *controllerapi.Client) {
	c := &fakeCloud{nodes: make(map[controllerapi.NodeID]string), claims: make(map[string]*controllerapi.Task),
		placed: make(map[controllerapi.NodeID][]controllerapi.Assignment), removed: make(map[controllerapi.NodeID][]string)}
	api := &wire.API{Log: zap.NewNop()}
	mux := http.NewServeMux()
	mux.Handle("POST "+controllerapi.PathAgentRegister, api.Handle(handle(c, c.register)))
	mux.Handle("POST "+controllerapi.PathAgentSync, api.Handle(handle(c, c.sync)))
	mux.Handle("POST "+controllerapi.PathAgentReserve, api.Handle(handle(c, c.reserve)))
	mux.Handle("POST "+controllerapi.PathAgentReport, api.Handle(handle(c, c.report)))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return c, controllerapi.NewClient(srv.URL, &http.Client{Transport: tr})
}

func handle[Req, Resp any](c *fakeCloud, f func(Req) (Resp, error)) wire.HandlerFunc {
	return func(r *http.Request) (any, error) {
		req, err := wire.Decode[Req](r)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return f(req)
	}
}

func (c *fakeCloud) register(r controllerapi.RegisterRequest) (controllerapi.RegisterResponse, error) {
	c.nodes[r.NodeID] = r.Session
	return controllerapi.RegisterResponse{NodeID: r.NodeID, HeartbeatIntervalMS: 20, Settings: controllerapi.NodeSettings{Generation: 1, MaxVMCount: *r.Seed.MaxVMCount}}, nil
}

func (c *fakeCloud) known(id controllerapi.NodeID, session string) error {
	switch c.nodes[id] {
	case "":
		return controllerapi.ErrUnknownNode.Fail(controllerapi.MsgUnknownNode)
	case session:
		return nil
	}
	return controllerapi.ErrSessionEnded.Fail(controllerapi.MsgSessionEnded)
}

func (c *fakeCloud) sync(r controllerapi.SyncRequest) (controllerapi.SyncResponse, error) {
	if err := c.known(r.NodeID, r.Session); err != nil {
		return controllerapi.SyncResponse{}, err
	}
	c.syncs = append(c.syncs, r)
	resync := c.resync
	c.resync = false
	c.gen++
	return controllerapi.SyncResponse{Resync: resync, HeartbeatIntervalMS: 20, Assignments: &controllerapi.Assignments{
		Generation: uuid.NewString(), Instances: slices.Clone(c.placed[r.NodeID]), Remove: c.removed[r.NodeID]}}, nil
}

func (c *fakeCloud) reserve(r controllerapi.ReserveRequest) (controllerapi.ReserveResponse, error) {
	if err := c.known(r.NodeID, r.Session); err != nil {
		return controllerapi.ReserveResponse{}, err
	}
	if t := c.claims[r.ReservationID]; t != nil {
		return controllerapi.ReserveResponse{Task: t}, nil
	}
	if len(c.queue) == 0 || r.FreeVMs == 0 && !c.generous {
		c.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // a long poll, as short as a test wants it
		c.mu.Lock()
		return controllerapi.ReserveResponse{}, nil
	}
	t := c.queue[0]
	c.claims[r.ReservationID] = &t
	c.queue = c.queue[1:]
	c.placed[r.NodeID] = append(c.placed[r.NodeID], controllerapi.Assignment{InstanceID: t.InstanceID, Attempt: t.Attempt, TaskID: t.ID})
	return controllerapi.ReserveResponse{Task: &t}, nil
}

func (c *fakeCloud) report(r controllerapi.ReportRequest) (controllerapi.ReportResponse, error) {
	if err := c.known(r.NodeID, r.Session); err != nil {
		return controllerapi.ReportResponse{}, err
	}
	c.reports = append(c.reports, r)
	return controllerapi.ReportResponse{Abandon: c.abandon}, nil
}

func (c *fakeCloud) put(tasks ...controllerapi.Task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, tasks...)
}

func (c *fakeCloud) terminate(node controllerapi.NodeID, id controllerapi.InstanceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.placed[node] {
		if c.placed[node][i].InstanceID == id {
			c.placed[node][i].Terminate = true
		}
	}
}

func (c *fakeCloud) reported(phase controllerapi.TaskPhase, task controllerapi.TaskID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.reports {
		if r.Phase == phase && r.TaskID == task {
			return true
		}
	}
	return false
}
