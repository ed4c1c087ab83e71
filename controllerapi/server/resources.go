package server

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// authConfig tells user interfaces how to log in; oidc is left out while it is
// off.
func (s *Server) authConfig(*http.Request) (any, error) { return struct{}{}, nil }

// usb serves how many devices of each group there are.
func (s *Server) usb(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	type count struct {
		Available int `json:"available"`
		Busy      int `json:"busy"`
	}
	out := map[string]count{}
	s.store.Read(func(v *cloud.View) {
		for _, n := range v.Nodes {
			free := v.ScheduleNode(n, v.Now()).USB
			total := map[string]int{}
			for _, d := range n.Facts.USBDevices {
				total[d.Group]++
			}
			for group, all := range total {
				c := out[group]
				available := min(max(free[group], 0), all)
				c.Available += available
				c.Busy += all - available
				out[group] = c
			}
		}
	})
	return out, nil
}

func (s *Server) vlans(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	set := map[string]bool{}
	s.store.Read(func(v *cloud.View) {
		for _, n := range v.Nodes {
			for _, id := range n.Facts.VLANs {
				set[id] = true
			}
		}
	})
	return slices.AppendSeq([]string{}, slices.Values(slices.Sorted(maps.Keys(set)))), nil
}

// maxMACs is the longest list of addresses in one answer.
const maxMACs = 10000

func (s *Server) macs(r *http.Request) (any, error) {
	q := r.URL.Query()
	if !q.Has("count") && !q.Has("in_use") && !q.Has("limit") {
		return nil, wire.Fail("count, in_use or limit is required")
	}
	limit := 0
	if q.Has("limit") {
		var err error
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > maxMACs {
			return nil, wire.Failf("limit %q: it must be from 1 to %d", q.Get("limit"), maxMACs)
		}
	}
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	var body any
	s.store.Read(func(v *cloud.View) {
		free, used := v.CountMACs(s.cfg.macRange())
		switch {
		case q.Has("limit"):
			body = v.FreeMACs(s.cfg.macRange(), q.Get("last"), limit)
		case q.Has("in_use") && isTrue(q.Get("in_use")):
			body = used
		default:
			body = free
		}
	})
	return body, nil
}

func isTrue(s string) bool { return s == "" || s == "1" || s == "true" }

func (s *Server) fillMACs(r *http.Request) (any, error) { return nil, s.store.FillMACs(r.Context()) }

func (s *Server) purgeMACs(r *http.Request) (any, error) { return nil, s.store.PurgeMACs(r.Context()) }

// checkMAC checks a start request against the management of addresses.
func (s *Server) checkMAC(req *api.StartRequest, count int) error {
	switch {
	case req.MACAddress != "" && !s.cfg.ManageMACAddresses:
		return wire.Fail("mac_address needs ANKA_MANAGE_MAC_ADDRESSES=true at the controller")
	case req.MACAddress != "" && count > 1:
		return wire.Fail("mac_address is for one instance: count must be 1")
	}
	return nil
}

// stats are figures over the shared state, the same on every controller.
func (s *Server) stats(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	out := struct {
		AverageQueueTime float64                   `json:"average_queue_time"` // seconds
		TasksPerSecond   float64                   `json:"tasks_per_second"`
		QueueLength      int                       `json:"queue_length"`
		Instances        map[api.InstanceState]int `json:"instances"`
		Nodes            map[api.NodeState]int     `json:"nodes"`
	}{Instances: map[api.InstanceState]int{}, Nodes: map[api.NodeState]int{}}
	const window = time.Minute
	s.store.Read(func(v *cloud.View) {
		now := v.Now()
		claimed, recent, waited := 0, 0, time.Duration(0)
		for _, i := range v.Instances {
			if i.Deleted == nil {
				out.Instances[i.Public.InstanceState]++
			}
			if i.Claim != nil {
				claimed++
				waited += max(0, i.Claim.At.Sub(i.Public.CRTime)) // of two controllers' clocks: for people
				if v.AgeOf(i, now) < window {                     // a report since counts as recent, too
					recent++
				}
			}
		}
		if claimed > 0 {
			out.AverageQueueTime = (waited / time.Duration(claimed)).Seconds()
		}
		out.TasksPerSecond = float64(recent) / window.Seconds()
		out.QueueLength = len(v.Pending())
		for _, n := range v.Nodes {
			out.Nodes[v.NodeState(n, v.Now())]++
		}
	})
	return out, nil
}
