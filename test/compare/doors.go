package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill"
	"github.com/ankacluster/ankacluster/balancer/drill/door"
)

// doorNames in the order of the table's columns.
var doorNames = []string{"haproxy", "nginx", "caddy", "rotating", "balancer"}

func (o options) config(name string) drill.Config {
	cfg := o.drill
	cfg.Open = func() door.Door { return o.door(name, "controllers") }
	cfg.OpenDownload = func() door.Door { return o.door(name, "registries") }
	return cfg
}

// door returns what stands before the controllers or the registries.
func (o options) door(name, role string) door.Door {
	switch name {
	case "haproxy":
		return &serverDoor{name: name, conf: filepath.Join(o.deploy, "haproxy/comparison", role+".cfg"),
			argv: func(_, conf string) []string { return []string{"haproxy", "-q", "-db", "-f", conf} }}
	case "nginx":
		return &serverDoor{name: name, conf: filepath.Join(o.deploy, "nginx/comparison", role+".conf"),
			argv: func(dir, conf string) []string { return []string{"nginx", "-q", "-p", dir, "-c", conf} }}
	case "caddy":
		return &serverDoor{name: name, conf: filepath.Join(o.deploy, "caddy/comparison", role+".caddyfile"),
			argv: func(_, conf string) []string {
				return []string{"caddy", "run", "--adapter", "caddyfile", "--config", conf}
			}}
	case "rotating":
		if role == "registries" {
			return door.Plain() // such a client asks one address for a download
		}
		return door.Rotating()
	}
	if role == "registries" {
		return door.Proxy([]string{o.program}, "registry")
	}
	return door.Balancer()
}

// serverDoor is a load balancer of its own: its shipped configuration with the
// addresses replaced.
type serverDoor struct {
	name, conf string
	argv       func(dir, conf string) []string
	dir        string
	cmd        *exec.Cmd
	client     *http.Client
}

func (d *serverDoor) Name() string { return d.name }

func (d *serverDoor) Open(ctx context.Context, backends []string) (*http.Client, string, error) {
	conf, err := os.ReadFile(d.conf)
	if err != nil {
		return nil, "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	listen := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, "", err
	}
	conf = bytes.ReplaceAll(conf, []byte("127.0.0.1:18100"), []byte(listen))
	for i, b := range backends {
		shipped := fmt.Sprintf("127.0.0.1:%d", 18101+i)
		conf = bytes.ReplaceAll(conf, []byte(shipped), []byte(strings.TrimPrefix(b, "http://")))
	}
	if d.dir, err = os.MkdirTemp("", "compare-"); err != nil {
		return nil, "", err
	}
	if err := os.Chmod(d.dir, 0o755); err != nil { // nginx's workers are another user
		return nil, "", err
	}
	path := filepath.Join(d.dir, filepath.Base(d.conf))
	if err := os.WriteFile(path, conf, 0o644); err != nil {
		return nil, "", err
	}
	argv := d.argv(d.dir, path)
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Stderr = os.Stderr
	d.cmd.Env = append(os.Environ(), "HOME="+d.dir, "XDG_DATA_HOME="+d.dir, "XDG_CONFIG_HOME="+d.dir) // caddy keeps files of its own
	if err := d.cmd.Start(); err != nil {
		return nil, "", err
	}
	base := "http://" + listen
	d.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	return d.client, base, awaitListener(ctx, listen)
}

func awaitListener(ctx context.Context, addr string) error {
	for end := time.Now().Add(30 * time.Second); ; {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (d *serverDoor) Close() {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	if d.cmd != nil && d.cmd.Process != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		_ = d.cmd.Wait()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}

// Usage is of the process and, for nginx, of the workers it has waited for.
func (d *serverDoor) Usage() (cpu time.Duration, maxResident int64) {
	if s := d.cmd.ProcessState; s != nil {
		cpu = s.UserTime() + s.SystemTime()
	}
	return cpu, 0
}
