package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// vmCommand is the hidden command that a VM's process runs.
const vmCommand = "__vm"

// A VM's process holds a lock on the file "alive" for as long as it lives. The
// descriptor is inherited, so that the lock is held before start returns, and a
// process id that the system gave to somebody else fools nobody.

func (s *store) alivePath(v *vm) string { return filepath.Join(s.vmDir(v.UUID), "alive") }

// running reports whether the VM's process lives.
func (s *store) running(v *vm) bool {
	f, err := os.Open(s.alivePath(v))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

func (s *store) status(v *vm) string {
	switch {
	case s.running(v):
		return "running"
	case v.Failed:
		return "failed"
	case v.Suspended:
		return "suspended"
	}
	return "stopped"
}

// launch starts the VM's process in a session of its own and returns once it
// runs. The store's lock is held.
func (s *store) launch(v *vm, vmFault string) error {
	alive, err := os.OpenFile(s.alivePath(v), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer alive.Close()
	if err := syscall.Flock(int(alive.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return failf("VM %s is already running", v.Name)
	}
	log, err := os.OpenFile(filepath.Join(s.vmDir(v.UUID), "vm.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyR.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, vmCommand, v.UUID, v.Name)
	cmd.Dir = s.rootDir(v)
	cmd.Env = append(os.Environ(), "FAKEANKA_DIR="+s.dir, "FAKEANKA_VM_FAULT="+vmFault)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{alive, readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	guests, err := s.forward(v, cmd)
	if err != nil {
		readyW.Close()
		return err
	}
	cmd.Env = append(cmd.Env, "FAKEANKA_VM_GUEST_PORTS="+strings.Join(guests, ","))
	err = cmd.Start()
	readyW.Close()
	for _, f := range cmd.ExtraFiles[2:] {
		f.Close()
	}
	if err != nil {
		return err
	}
	v.PID, v.Started, v.Suspended = cmd.Process.Pid, now(), false
	if _, err := readyR.Read(make([]byte, 1)); err != nil {
		return failf("VM %s died while it started", v.Name)
	}
	return cmd.Process.Release()
}

// forward opens a listener for every forwarding rule; the VM's process inherits
// them, so that no other start can take the port in between.
func (s *store) forward(v *vm, cmd *exec.Cmd) (guests []string, err error) {
	base := envInt("FAKEANKA_PORT_BASE", 10000)
	for i := range v.Ports {
		p := &v.Ports[i]
		first, last := base, base+2000
		if p.Host != 0 {
			first, last = p.Host, p.Host
		}
		var l net.Listener
		for n := first; n <= last; n++ {
			if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(n)); err == nil {
				p.Active = n
				break
			}
		}
		if err != nil {
			return nil, failf("port forwarding %s: %v", p.Name, err)
		}
		f, err := l.(*net.TCPListener).File()
		l.Close()
		if err != nil {
			return nil, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		guests = append(guests, strconv.Itoa(p.Guest))
	}
	return guests, nil
}

// runVMProcess is the VM: it answers on its ports and waits to be stopped.
func runVMProcess(ctx context.Context, e *env, o options) (any, error) {
	if len(o.args) != 2 {
		return nil, failf("%s UUID NAME", vmCommand)
	}
	uuid, name := o.args[0], o.args[1]
	fault := os.Getenv("FAKEANKA_VM_FAULT")
	if fault == "hang" {
		signal.Ignore(syscall.SIGTERM, os.Interrupt)
	}
	var wg sync.WaitGroup
	var listeners []net.Listener
	for i, guest := range strings.FieldsFunc(os.Getenv("FAKEANKA_VM_GUEST_PORTS"), func(r rune) bool { return r == ',' }) {
		f := os.NewFile(uintptr(5+i), "port")
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		if fault != "hang" {
			wg.Go(func() { servePort(l, name, guest) })
		}
	}
	// The alive lock (3) lives as long as this process; nothing that runs below it
	// may inherit it.
	syscall.CloseOnExec(3)
	ready := os.NewFile(4, "ready")
	if _, err := ready.Write([]byte{1}); err != nil {
		return nil, err
	}
	ready.Close()
	fmt.Printf("%s VM %s (%s) runs as process %d\n", now(), name, uuid, os.Getpid())
	var crash <-chan time.Time
	if after, ok := strings.CutPrefix(fault, "crash:"); ok {
		d, err := time.ParseDuration(after)
		if err != nil {
			return nil, err
		}
		crash = time.After(d)
	}
	switch fault {
	case "hang":
		e.store.awaitEnd(context.Background(), uuid, nil)
	default:
		e.store.awaitEnd(ctx, uuid, crash)
	}
	for _, l := range listeners {
		l.Close()
	}
	wg.Wait()
	return nil, nil
}

// awaitEnd returns when the VM is stopped, or when its directory is gone: a test
// that was killed cannot stop its VMs.
func (s *store) awaitEnd(ctx context.Context, uuid string, crash <-chan time.Time) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-crash:
			fmt.Println(now(), "crashes as asked")
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case <-tick.C:
			if _, err := os.Stat(s.vmDir(uuid)); errors.Is(err, os.ErrNotExist) {
				return
			}
		}
	}
}

// servePort answers as a guest would: with a banner on port 22, else with a
// short page.
func servePort(l net.Listener, name, guest string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(stopGrace / 2))
		if guest == "22" {
			_, _ = fmt.Fprintf(conn, "SSH-2.0-%s\r\n", name)
		} else {
			_, _ = bufio.NewReader(conn).ReadString('\n')
			body := name + " port " + guest + "\n"
			_, _ = fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		conn.Close()
	}
}

// stopGrace is how long a VM has to stop by itself: under the race detector a
// process takes a second to exit.
const stopGrace = time.Minute

// halt ends the VM's process and whatever runs in the VM. Without force the
// process is asked first.
func (s *store) halt(v *vm, force bool) error {
	s.killGuests(v)
	if !s.running(v) {
		return nil
	}
	if !force {
		_ = syscall.Kill(v.PID, syscall.SIGTERM)
		for deadline := time.Now().Add(stopGrace); s.running(v) && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		if s.running(v) {
			return failf("VM %s does not stop: try --force", v.Name)
		}
	}
	if s.running(v) {
		_ = syscall.Kill(v.PID, syscall.SIGKILL)
		for s.running(v) {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// guestsDir holds a file for each command that `run` runs in the VM, named by
// its process group.
func (s *store) guestsDir(v *vm) string { return filepath.Join(s.vmDir(v.UUID), "guests") }

func (s *store) killGuests(v *vm) {
	files, _ := os.ReadDir(s.guestsDir(v)) // none is the usual case
	for _, f := range files {
		path := filepath.Join(s.guestsDir(v), f.Name())
		if pgid, err := strconv.Atoi(f.Name()); err == nil && pgid > 1 {
			// The file is locked by `run` for as long as the command runs.
			if lf, err := os.Open(path); err == nil {
				if syscall.Flock(int(lf.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
					_ = syscall.Kill(-pgid, syscall.SIGKILL)
				}
				lf.Close()
			}
		}
		_ = os.Remove(path)
	}
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}
