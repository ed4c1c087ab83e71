package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/test/localcloud"
)

// cloudSize is how many controllers and etcd members --cloud runs of each.
const cloudSize = 3

// ownCloud is a cloud of real processes that lives as long as the run.
type ownCloud struct {
	dir          string
	etcd, ctrl   []*localcloud.Process
	etcdURLs     []string
	ctrlURLs     []string
	stopRegistry func()
}

// startCloud starts etcd, controllers and a registry that knows the template.
// bin holds the executables etcd and anka-controller.
func startCloud(ctx context.Context, bin, template string) (*ownCloud, error) {
	ports, err := localcloud.FreePorts(3*cloudSize + 1)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "nodesim-")
	if err != nil {
		return nil, err
	}
	c := &ownCloud{dir: dir}
	registry := localcloud.Addr(ports[3*cloudSize])
	if c.stopRegistry, err = serveRegistry(registry, template); err != nil {
		return nil, err
	}
	var peers []string
	for i := range cloudSize {
		c.etcdURLs = append(c.etcdURLs, localcloud.URL(ports[i]))
		c.ctrlURLs = append(c.ctrlURLs, localcloud.URL(ports[2*cloudSize+i]))
		peers = append(peers, fmt.Sprintf("etcd-%d=%s", i+1, localcloud.URL(ports[cloudSize+i])))
	}
	for i := range cloudSize {
		name, peer := fmt.Sprintf("etcd-%d", i+1), localcloud.URL(ports[cloudSize+i])
		c.etcd = append(c.etcd, &localcloud.Process{Name: name, Path: filepath.Join(bin, "etcd"), Log: filepath.Join(dir, name+".log"),
			Args: localcloud.Etcd{Name: name, Dir: filepath.Join(dir, name), Client: c.etcdURLs[i], Peer: peer}.Args(strings.Join(peers, ","))})
		name = fmt.Sprintf("controller-%d", i+1)
		c.ctrl = append(c.ctrl, &localcloud.Process{Name: name, Path: filepath.Join(bin, "anka-controller"), Log: filepath.Join(dir, name+".log"), Env: []string{
			"ANKA_LISTEN_ADDR=" + strings.TrimPrefix(c.ctrlURLs[i], "http://"), "ANKA_ADVERTISE_URL=" + c.ctrlURLs[i], "ANKA_DATA_DIR=" + filepath.Join(dir, name),
			"ANKA_ETCD_ENDPOINTS=" + strings.Join(c.etcdURLs, ","), "ANKA_ANKA_REGISTRY=http://" + registry}})
	}
	for _, group := range []struct {
		processes []*localcloud.Process
		urls      []string
	}{{c.etcd, c.etcdURLs}, {c.ctrl, c.ctrlURLs}} {
		for _, p := range group.processes {
			if err := p.Start(); err != nil {
				return nil, errors.Join(err, c.stop())
			}
		}
		for i, p := range group.processes {
			if err := awaitReady(ctx, p, group.urls[i]+"/readyz"); err != nil {
				return nil, errors.Join(err, c.stop())
			}
		}
	}
	return c, nil
}

func awaitReady(ctx context.Context, p *localcloud.Process, url string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(registerLimit); ; {
		resp, err := client.Get(url)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if !p.Running() || time.Now().After(deadline) || !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s is not ready; the end of its log:\n%s", p.Name, p.Tail(10))
		}
	}
}

// stop ends every process and removes its data.
func (c *ownCloud) stop() error {
	var errs []error
	for _, p := range append(append([]*localcloud.Process{}, c.ctrl...), c.etcd...) {
		errs = append(errs, p.Kill())
	}
	c.stopRegistry()
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// usage is what the processes of a run have used so far, 0 where the system does
// not tell.
type usage struct {
	driver, controllers, etcd time.Duration // of all processors
	resident, most            []int64       // bytes of each controller, now and at most
}

func (c *ownCloud) usage() usage {
	u := usage{driver: cpuTime(os.Getpid())}
	for _, p := range c.ctrl {
		u.controllers += cpuTime(p.PID())
		now, most := residentSet(p.PID())
		u.resident, u.most = append(u.resident, now), append(u.most, most)
	}
	for _, p := range c.etcd {
		u.etcd += cpuTime(p.PID())
	}
	return u
}

// residentSet returns the resident set of a process, now and at most.
func residentSet(pid int) (now, most int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, " kB")), 10, 64)
		switch name {
		case "VmRSS":
			now = kb << 10
		case "VmHWM":
			most = kb << 10
		}
	}
	return now, most
}

// cpuTime returns what a process has used of the processors. Linux counts it in
// hundredths of a second, see proc_pid_stat(5).
func cpuTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the program's name may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
