package door

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/process"
)

// Proxy is the loopback proxy as a user runs it: the command line program
// with the arguments, in a process of its own. role is "controller" or
// "registry".
func Proxy(program []string, role string) Usage {
	return &proxyDoor{program: program, role: role}
}

type proxyDoor struct {
	program []string
	role    string
	proc    *process.Process
	client  *http.Client
}

func (d *proxyDoor) Name() string { return "balancer" }

func (d *proxyDoor) Open(_ context.Context, backends []string) (*http.Client, string, error) {
	listen, err := FreeAddress()
	if err != nil {
		return nil, "", err
	}
	lists := map[string]string{"controller": "--controllers", "registry": "--registries"}
	argv := append([]string(nil), d.program...)
	argv = append(argv, "proxy", lists[d.role], strings.Join(backends, ","), "--"+d.role+"-listen", listen)
	if d.proc, err = process.Start(argv); err != nil {
		return nil, "", fmt.Errorf("start the proxy: %w", err)
	}
	go d.proc.Discard()
	d.client = &http.Client{Transport: newTransport()}
	return d.client, "http://" + listen, nil
}

// Close asks the proxy to leave, so that what it used is known.
func (d *proxyDoor) Close() {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	if d.proc == nil {
		return
	}
	_ = d.proc.Terminate()
	if d.proc.Await(15*time.Second) != nil {
		d.proc.Kill()
	}
}

func (d *proxyDoor) Usage() (cpu time.Duration, maxResident int64) { return d.proc.Usage() }

// FreeAddress is an address of loopback at which nothing listens.
func FreeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
