package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	controller "github.com/ankacluster/ankacluster/controllerapi/server"
	"github.com/ankacluster/ankacluster/internal/settings"
)

func configOf(t *testing.T, vars map[string]string) *config {
	t.Helper()
	c := new(config)
	given, errs := settings.Load(c.table(), func(string) (string, bool) { return "", false }, env(vars))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	c.given = given
	c.complete()
	return c
}

// Every documented setting of scheduling has its effect.
func TestSettingsOfSchedulingReachTheController(t *testing.T) {
	t.Parallel()
	def := controller.DefaultConfig()
	for name, tc := range map[string]struct {
		vars map[string]string
		got  func(controller.Config) any
		want any
	}{
		"scheduler interval":         {map[string]string{"ANKA_SCHEDULER_INTERVAL": "7m"}, func(c controller.Config) any { return c.SchedulerInterval }, 7 * time.Minute},
		"agent packages":             {map[string]string{"ANKA_AGENT_PACKAGES": "/srv/agents"}, func(c controller.Config) any { return c.PackageDir }, "/srv/agents"},
		"agent packages, not given":  {nil, func(c controller.Config) any { return c.PackageDir }, ""},
		"clean queues":               {map[string]string{"ANKA_CLEAN_QUEUES_INTERVAL": "2h"}, func(c controller.Config) any { return c.CleanQueuesInterval }, 2 * time.Hour},
		"clean queues, not given":    {nil, func(c controller.Config) any { return c.CleanQueuesInterval }, time.Hour},
		"reserve timeout":            {map[string]string{"ANKA_RESERVE_TASK_TIMEOUT": "10s"}, func(c controller.Config) any { return c.ReserveTaskTimeout }, 10 * time.Second},
		"reserve timeout, not given": {nil, func(c controller.Config) any { return c.ReserveTaskTimeout }, def.ReserveTaskTimeout},
		"query timeout":              {map[string]string{"ANKA_QUERY_TASK_TIMEOUT": "3s"}, func(c controller.Config) any { return c.QueryTaskTimeout }, 3 * time.Second},
		"workers":                    {map[string]string{"ANKA_NUM_WORKERS": "3"}, func(c controller.Config) any { return c.Claims }, 6},
		"batch":                      {map[string]string{"ANKA_NUM_WORKERS": "3", "ANKA_BATCH_TASK_COUNT": "40"}, func(c controller.Config) any { return c.Claims }, 120},
		"workers, not given":         {nil, func(c controller.Config) any { return c.Claims }, 0},
		"instance timeout":           {map[string]string{"ANKA_INSTANCE_ACTIVE_TIMEOUT": "9m"}, func(c controller.Config) any { return c.InstanceActiveTimeout }, 9 * time.Minute},
		"etcd timeout":               {map[string]string{"ANKA_ETCD_REQUEST_TIMEOUT": "4s"}, func(c controller.Config) any { return c.EtcdTimeout }, 4 * time.Second},
		// CI clients give up after ten seconds and do not ask again.
		"etcd timeout, longer than callers wait": {map[string]string{"ANKA_ETCD_REQUEST_TIMEOUT": "20s"}, func(c controller.Config) any { return c.EtcdTimeout }, 10 * time.Second},
	} {
		if got := tc.got(configOf(t, tc.vars).controllerConfig()); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// F27: a firewall that was closed must not be passed for ever through connections
// of before: idle ones to the registry are limited in number and in age.
func TestF27IdleConnectionsToTheRegistryAreLimited(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	srv.Start()
	defer srv.Close()
	for limit, want := range map[string]int64{"0": 0, "2": 2} {
		client := configOf(t, map[string]string{"ANKA_MAX_IDLE_CONNECTION_PER_HOST": limit}).registryClient()
		var bodies []io.ReadCloser
		for range 5 { // five at a time, so that there are five connections
			resp, err := client.Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, resp.Body)
		}
		for _, b := range bodies {
			_, _ = io.Copy(io.Discard, b)
			b.Close()
		}
		until := time.Now().Add(deadline)
		for open.Load() > want && time.Now().Before(until) {
			time.Sleep(5 * time.Millisecond)
		}
		if got := open.Load(); got > want {
			t.Errorf("ANKA_MAX_IDLE_CONNECTION_PER_HOST=%s: %d connections stay open, want %d at most", limit, got, want)
		}
		if age := client.Transport.(*http.Transport).IdleConnTimeout; age <= 0 || age > 2*time.Minute {
			t.Errorf("idle connections are kept for %v", age)
		}
		client.CloseIdleConnections()
	}
}

// What launchd keeps of stderr is rotated by nothing: with a directory for logs,
// they go there alone.
func TestLogsOfADirectoryStayOffStderr(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, to := range []string{"", dir} {
		var stderr bytes.Buffer
		c := configOf(t, map[string]string{"ANKA_LOG_DIR": to})
		log := c.newLogger(&stderr)
		log.Error("something failed")
		_ = log.Sync()
		if quiet := to != ""; quiet != (stderr.Len() == 0) {
			t.Errorf("log dir %q: stderr has %q", to, stderr.String())
		}
		if args := c.withLogDir(nil); (len(args) == 1) != (to == "") {
			t.Errorf("log dir %q: a service gets %q", to, args)
		}
	}
	for _, name := range []string{"anka-controller.log", "anka-controller-error.log"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(data, []byte("something failed")) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
