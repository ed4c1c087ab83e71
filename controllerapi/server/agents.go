package server

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// maxReserveWait keeps long polls below the idle limits of proxies.
const maxReserveWait = 50 * time.Second

// A heartbeat tells of all VMs and images of a node; a report has two outputs of
// scripts, and little beside them.
var (
	syncBody   = wire.Limits{Bytes: api.MaxSync, Values: 5000}
	reportBody = wire.Limits{Bytes: api.MaxReport, Values: 1000}
)

// nodeIDs become parts of keys.
var nodeIDs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

func (s *Server) register(r *http.Request) (any, error) {
	req, err := wire.Decode[api.RegisterRequest](r)
	if err != nil {
		return nil, err
	}
	switch {
	case !nodeIDs.MatchString(string(req.NodeID)):
		return nil, wire.Failf("node_id %q: letters, digits, and . _ : - are possible, up to 128", req.NodeID)
	case req.Session == "":
		return nil, required("session")
	case req.Facts.HostArch != "arm64" && req.Facts.HostArch != "amd64":
		return nil, wire.Failf("facts.host_arch %q: it must be arm64 or amd64", req.Facts.HostArch)
	}
	if err := checkSeed(req.Seed); err != nil {
		return nil, err
	}
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	if own := s.store.CloudID(); req.CloudID != "" && req.CloudID != own {
		s.log.Error("a node of another cloud registers: has etcd lost its data?", zap.String("node_id", string(req.NodeID)),
			zap.String("cloud_id", own), zap.String("node_cloud_id", req.CloudID))
	}
	if err := s.store.Register(r.Context(), req); err != nil {
		if errors.Is(err, cloud.ErrOtherHost) {
			s.log.Warn("a host with a copy of a node's state was refused", zap.String("node_id", string(req.NodeID)), zap.String("address", req.Facts.Host))
		}
		return nil, err
	}
	out := api.RegisterResponse{NodeID: req.NodeID, Cluster: s.lists(), HeartbeatIntervalMS: s.cfg.HeartbeatInterval.Milliseconds()}
	s.store.Read(func(v *cloud.View) {
		if n := v.Nodes[req.NodeID]; n != nil {
			out.Settings = v.SettingsOf(n)
		}
	})
	return out, nil
}

func checkSeed(seed api.SeedSettings) error {
	switch {
	case seed.MaxVMCount != nil && *seed.MaxVMCount < 0:
		return wire.Failf("max_vm_count %d: it must not be negative", *seed.MaxVMCount)
	case seed.CapacityMode != nil && *seed.CapacityMode != "number" && *seed.CapacityMode != "resource":
		return wire.Failf("capacity_mode %q: it must be number or resource", *seed.CapacityMode)
	case seed.VCPUOverride != nil && *seed.VCPUOverride < 0:
		return wire.Failf("vcpu_override %d: it must not be negative", *seed.VCPUOverride)
	case seed.RAMOverride != nil && *seed.RAMOverride < 0:
		return wire.Failf("ram_override %d: it must not be negative", *seed.RAMOverride)
	case seed.Name != nil && *seed.Name == "":
		return wire.Fail("name must not be empty")
	}
	return nil
}

func (s *Server) unregister(r *http.Request) (any, error) {
	req, err := wire.Decode[api.UnregisterRequest](r)
	if err != nil {
		return nil, err
	}
	err = s.store.RemoveNode(r.Context(), req.NodeID, req.Session)
	if errors.Is(err, cloud.ErrNotFound) {
		return nil, nil // repeated
	}
	return nil, err
}

func (s *Server) sync(r *http.Request) (any, error) {
	req, err := wire.DecodeMax[api.SyncRequest](r, syncBody)
	if err != nil {
		return nil, err
	}
	if up, ok := parseToken(req.Token); ok {
		s.store.NoteRenewedUptime(req.NodeID, up)
	}
	synced, err := s.store.Sync(r.Context(), &req)
	if err != nil {
		return nil, err
	}
	out := api.SyncResponse{
		Resync: synced.Resync, HeartbeatIntervalMS: s.cfg.HeartbeatInterval.Milliseconds(),
		Token: s.makeToken(req.NodeID),
	}
	if synced.Settings.Generation != req.SettingsGeneration {
		out.Settings = &synced.Settings
	}
	if lists := s.lists(); lists.Generation != req.ClusterGeneration {
		out.Cluster = &lists
	}
	if synced.Assignments.Generation != req.AssignmentGeneration {
		out.Assignments = &synced.Assignments
	}
	return out, nil
}

// The token tells the next controller when the node's lease was renewed last, so
// that three controllers do not renew it three times as often. It is in time
// since the cloud began, which does not hang on the controllers' clocks.
func (s *Server) makeToken(node api.NodeID) string {
	up, ok := s.store.RenewedUptime(node)
	if !ok {
		return ""
	}
	return tokenKind + strconv.FormatInt(up.Milliseconds(), 36)
}

const tokenKind = "2."

func parseToken(token string) (time.Duration, bool) {
	text, ok := strings.CutPrefix(token, tokenKind)
	ms, err := strconv.ParseInt(text, 36, 64)
	return time.Duration(ms) * time.Millisecond, ok && err == nil
}

// reserve waits for a task for the node. Most polls bring none: what waits is
// parked.
func (s *Server) reserve(w http.ResponseWriter, r *http.Request) {
	p, err := s.beginPoll(r)
	if err != nil {
		s.api.WriteError(w, r, answer(err))
		return
	}
	task, done, err := s.query(r.Context(), p.res)
	if done {
		p.end()
		s.api.Answer(w, r, api.ReserveResponse{Task: task}, err)
		return
	}
	wait := s.metrics.observeParked(wire.Recover(s.log, s.api.Handle(func(r *http.Request) (any, error) {
		defer p.end()
		task, err := s.wait(r.Context(), p)
		return api.ReserveResponse{Task: task}, err
	})))
	if !wire.Park(w, r, wait) {
		wait.ServeHTTP(w, r)
	}
}

// poll is a long poll under way.
type poll struct {
	res     cloud.Reservation
	waiter  *waiter
	timeout *time.Timer
	end     func()
}

func (s *Server) beginPoll(r *http.Request) (*poll, error) {
	req, err := wire.Decode[api.ReserveRequest](r)
	if err != nil {
		return nil, err
	}
	if req.ReservationID == "" {
		return nil, required("reservation_id")
	}
	if err := s.store.CheckSession(r.Context(), req.NodeID, req.Session); err != nil {
		return nil, err
	}
	p := &poll{res: cloud.Reservation{ID: req.ReservationID, Node: req.NodeID, Session: req.Session, Kinds: req.Kinds}}
	s.store.Begin(&p.res)
	p.waiter = s.disp.join(&req)
	p.timeout = time.NewTimer(min(max(time.Duration(req.WaitMS)*time.Millisecond, 0), maxReserveWait, s.cfg.ReserveTaskTimeout))
	p.end = func() { s.disp.leave(p.waiter); p.timeout.Stop() }
	return p, nil
}

// wait returns the task that comes within the poll's time, or nil.
func (s *Server) wait(ctx context.Context, p *poll) (*api.Task, error) {
	for {
		select {
		case <-p.waiter.wake:
			if err := s.store.CheckSession(ctx, p.res.Node, p.res.Session); err != nil {
				return nil, err
			}
		case id := <-p.waiter.offer:
			task, err := s.claim(ctx, p.res, id)
			s.disp.answered(p.waiter, id, err == nil && task != nil)
			switch {
			case errors.Is(err, cloud.ErrTaken):
			case errors.Is(err, cloud.ErrSpent):
				return nil, nil
			case err != nil || task != nil:
				return task, err
			}
		case <-p.timeout.C:
			return nil, nil
		case <-s.draining:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if task, done, err := s.query(ctx, p.res); done {
			return task, err
		}
	}
}

// query looks for a task that only this node can do. The poll is done when there
// is one, its reservation has been used up, or that cannot be told.
func (s *Server) query(ctx context.Context, res cloud.Reservation) (task *api.Task, done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTaskTimeout)
	defer cancel()
	task, err = s.store.HandedTask(ctx, res)
	if err == nil && task == nil {
		task, err = s.store.HandOut(ctx, res)
	}
	if errors.Is(err, cloud.ErrSpent) {
		return nil, true, nil
	}
	return task, task != nil || err != nil, err
}

// claim claims a task, when one of the places for claims is free.
func (s *Server) claim(ctx context.Context, res cloud.Reservation, id api.InstanceID) (*api.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTaskTimeout)
	defer cancel()
	if s.claims != nil {
		select {
		case s.claims <- struct{}{}:
			defer func() { <-s.claims }()
		case <-ctx.Done():
			return nil, cloud.ErrTaken // others shall have it
		}
	}
	return s.store.Claim(ctx, res, id)
}

func (s *Server) report(r *http.Request) (any, error) {
	req, err := wire.DecodeMax[api.ReportRequest](r, reportBody)
	if err != nil {
		return nil, err
	}
	switch req.Phase {
	case api.PhaseProgress, api.PhaseDone, api.PhaseFailed, api.PhaseReturned:
	default:
		return nil, wire.Failf("phase %q is not known", req.Phase)
	}
	abandon, err := s.store.Report(r.Context(), &req)
	return api.ReportResponse{Abandon: abandon}, err
}
