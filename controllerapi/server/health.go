package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
)

const (
	// healthEvery is how often readiness is found out. Thousands of agents ask
	// for it; they all get the last finding.
	healthEvery = time.Second
	// healthStale is how old a finding may be; one that hangs is bad news too.
	healthStale = 5 * time.Second
)

// health is the last finding about this controller.
type health struct{ last atomic.Pointer[finding] }

type finding struct {
	at     time.Time
	reason string // why it is not ready, "" when it is
	alarm  bool   // etcd has one
	full   string // why nothing new is taken, "" when there is room
}

// reserve is the part of etcd's quota, in percent, that calls of CI systems leave to
// nodes, claims and ends: without it nothing could end that takes the room.
const reserve = 20

// fullness returns why nothing new is taken from CI systems, or "".
func fullness(inUse, quota int64) string {
	if quota <= 0 || inUse < quota/100*(100-reserve) {
		return ""
	}
	return fmt.Sprintf("etcd is %d %% full: what runs goes on and ends, and nothing new is taken", inUse*100/quota)
}

// fill returns what fullness says of the member that is asked, and of before where
// none answers.
func (s *Server) fill(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, healthEvery)
	defer cancel()
	for _, endpoint := range s.etcd.Endpoints() {
		if status, err := s.etcd.Status(ctx, endpoint); err == nil {
			return fullness(status.DbSizeInUse, status.DbSizeQuota)
		}
	}
	return s.full()
}

// full returns why nothing new is taken from CI systems, or "".
func (s *Server) full() string {
	if last := s.health.last.Load(); last != nil {
		return last.full
	}
	return ""
}

// watchHealth finds out whether this controller can serve.
func (s *Server) watchHealth(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	// A state that is being loaded is how every start begins; it is a fault once a
	// controller was ready.
	was, ready := "starting", false
	for {
		reason, alarm := s.examine(ctx)
		if ctx.Err() != nil {
			return
		}
		full := ""
		if reason == "" {
			full = s.fill(ctx)
		}
		if before := s.full(); full != "" && before == "" {
			s.log.Error("etcd needs room: see anka-controller etcd status and defrag", zap.String("reason", full))
		}
		s.health.last.Store(&finding{at: time.Now(), reason: reason, alarm: alarm, full: full})
		if reason != was {
			switch {
			case reason == "":
				ready = true
				s.log.Info("ready")
			case reason == loading && !ready:
				s.log.Info("loading the state from etcd")
			default:
				s.log.Warn("not ready", zap.String("reason", reason))
			}
			was = reason
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// loading is why a controller that has just begun is not ready.
const loading = "state is not loaded from etcd yet"

// examine returns why this controller cannot serve, and whether that is an alarm
// of etcd.
func (s *Server) examine(ctx context.Context) (reason string, alarm bool) {
	ctx, cancel := context.WithTimeout(ctx, healthStale-healthEvery)
	defer cancel()
	select {
	case <-s.store.Loaded():
	default:
		return loading, false
	}
	switch err := s.store.Fresh(ctx); {
	case errors.Is(err, cloudstore.ErrOtherHistory):
		return fmt.Sprintf("%v: the state is not loaded yet", cloudstore.ErrOtherHistory), false
	case err != nil:
		return fmt.Sprintf("etcd does not answer: %v", err), false
	}
	ctx, cancelAlarms := context.WithTimeout(ctx, healthEvery)
	defer cancelAlarms()
	alarms, err := s.etcd.AlarmList(ctx)
	if err != nil {
		// Reads work; the call may have gone to a member that is paused. What was
		// known of alarms holds.
		if last := s.health.last.Load(); last != nil && last.alarm {
			return last.reason, true
		}
		return "", false
	}
	for _, a := range alarms.Alarms {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE || a.Alarm == etcdserverpb.AlarmType_CORRUPT {
			return fmt.Sprintf("etcd alarm %s at member %x", a.Alarm, a.MemberID), true
		}
	}
	return "", false
}

// alarmed reports whether etcd has an alarm.
func (s *Server) alarmed() bool {
	last := s.health.last.Load()
	return last != nil && last.alarm
}

func (s *Server) notReady() string {
	if s.isDraining() {
		return "draining"
	}
	last := s.health.last.Load()
	switch {
	case last == nil:
		return "starting"
	case last.reason == "" && time.Since(last.at) > healthStale:
		return "etcd does not answer"
	}
	return last.reason
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") }

// readyz tells whether this controller can serve. With ?verbose it also tells what
// a person should know and nodes need not: the answer's first line and its code are
// the same.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Server-Id", s.cfg.ID) // two addresses of one controller are known by it
	code, text := http.StatusOK, "ok"
	if reason := s.notReady(); reason != "" {
		code, text = http.StatusServiceUnavailable, reason
	}
	if r.URL.Query().Has("verbose") {
		problems := s.catalog.problems()
		for _, p := range problems {
			text += "\n[-] " + p
		}
		if len(problems) == 0 {
			text += "\n[+] registries answer and hold the same templates"
		}
	}
	plain(w, code, text)
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text)
}
