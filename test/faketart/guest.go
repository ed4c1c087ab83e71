package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A command in the guest is a child of the VM's process, by way of a watcher that
// ends it when that process has gone, by whatever death. It runs in the directory
// root of the VM. What would end a Mac ends the VM: `sudo` and `shutdown` are the
// VM's own, and a guest that would find others is not started.

// guests runs the commands that come over the control socket.
type guests struct {
	listener *net.UnixListener
	vm       vm
	watched  *os.File // its other end is closed with this process
	alive    *os.File

	mu    sync.Mutex
	ended bool // guarded by mu
	wg    sync.WaitGroup
}

func newGuests(l *net.UnixListener, v vm) (*guests, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	g := &guests{listener: l, vm: v, watched: r, alive: w}
	return g, errors.Join(os.MkdirAll(v.path("root"), 0o755), g.writeTools())
}

// writeTools makes the guest's own sudo, shutdown and diskutil.
func (g *guests) writeTools() error {
	if err := os.MkdirAll(g.vm.path("bin"), 0o755); err != nil {
		return err
	}
	sudo := "#!/bin/sh\n[ \"$1\" = -n ] && shift\nexec \"$@\"\n"
	shutdown := fmt.Sprintf("#!/bin/sh\n[ -e '%s' ] && kill -INT %d\n", g.vm.path(bootedFile), os.Getpid())
	diskutil := fmt.Sprintf("#!/bin/sh\ngb=$(cat '%s')\necho \"   Container Total Space:     $gb.0 GB (${gb}000000000 Bytes) (exactly 1 512-Byte-Units)\"\n", g.vm.path(usedFile))
	return errors.Join(os.WriteFile(g.vm.path("bin/sudo"), []byte(sudo), 0o755),
		os.WriteFile(g.vm.path("bin/shutdown"), []byte(shutdown), 0o755),
		os.WriteFile(g.vm.path("bin/diskutil"), []byte(diskutil), 0o755))
}

// serve takes commands until end.
func (g *guests) serve() {
	g.wg.Go(func() {
		for {
			conn, err := g.listener.AcceptUnix()
			if err != nil {
				return
			}
			g.mu.Lock()
			if !g.ended {
				g.wg.Go(func() { g.handle(conn) })
			}
			g.mu.Unlock()
		}
	})
}

// end ends the guest with all its commands.
func (g *guests) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.listener.Close()
	g.alive.Close()
	g.wg.Wait()
}

// request is what exec asks for; its three streams travel beside it.
type request struct{ Argv []string }

func (g *guests) handle(conn *net.UnixConn) {
	defer conn.Close()
	buf, oob := make([]byte, 256<<10), make([]byte, syscall.CmsgSpace(3*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return
	}
	var req request
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 || json.Unmarshal(buf[:n], &req) != nil {
		return
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 3 {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	cmd := exec.Command(self, append([]string{guestCommand}, req.Argv...)...)
	cmd.Dir = g.vm.path("root")
	cmd.Env = append(os.Environ(), guestBin+"="+g.vm.path("bin"))
	var streams []*os.File
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		streams = append(streams, os.NewFile(uintptr(fd), "stream"))
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams[0], streams[1], streams[2]
	// The caller's death ends the command as well.
	callerGone, callerAlive, err := os.Pipe()
	if err != nil {
		return
	}
	cmd.ExtraFiles = []*os.File{g.watched, callerGone}
	err = cmd.Start()
	for _, f := range append(streams, callerGone) {
		f.Close()
	}
	if err != nil {
		callerAlive.Close()
		return
	}
	go func() { // ends with the connection, which handle closes
		_, _ = io.Copy(io.Discard, conn)
		callerAlive.Close()
	}()
	code := 0
	if err := cmd.Wait(); err != nil {
		code = max(cmd.ProcessState.ExitCode(), 1)
	}
	_ = json.NewEncoder(conn).Encode(code) // the caller may have gone
}

// execute is `tart exec`.
func execute(_ context.Context, s *store, o options) error {
	name := o.args[0]
	v, err := s.openLocal(name)
	if err != nil {
		return err
	}
	if v.pid() == 0 {
		return notRunning(name)
	}
	noAgent := failf("Failed to connect to the VM using its control socket: connection refused, is the Tart Guest Agent running?")
	if os.Getenv("FAKETART_GUEST_AGENT") == "off" {
		return noAgent
	}
	if _, err := os.Stat(v.path(bootedFile)); err != nil { // not booted
		return noAgent
	}
	if err := os.Chdir(v.dir); err != nil {
		return err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: "control.sock", Net: "unix"})
	if err != nil {
		return noAgent
	}
	defer conn.Close()
	stdin := os.Stdin
	if !o.has("i") {
		if stdin, err = os.Open(os.DevNull); err != nil {
			return err
		}
	}
	data, err := json.Marshal(request{o.args[1:]})
	if err != nil {
		return err
	}
	if err := s.mind(stdin); err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix(data, syscall.UnixRights(int(stdin.Fd()), 1, 2), nil); err != nil {
		return err
	}
	if versionIn("2.27.1", "2.27.3") {
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
	}
	var code int
	if err := json.NewDecoder(conn).Decode(&code); errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("deadline exceeded (4): timed out")
	} else if err != nil {
		return errors.New("unavailable (14): Transport became inactive")
	}
	if code == 0 {
		return nil
	}
	return guestExit(code)
}

// mind does what versions of the real command do wrong with the input of exec.
func (s *store) mind(stdin *os.File) error {
	info, err := stdin.Stat()
	if err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular() && versionIn("", "2.28.2"):
		for { // it waits for a file to become readable, which is told of pipes only
			time.Sleep(time.Hour)
		}
	case info.Mode()&os.ModeNamedPipe != 0 && versionIn("", "2.33.0"):
		f, err := os.OpenFile(filepath.Join(s.home, "spins"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, os.Getpid())
		return errors.Join(err, f.Close())
	}
	return nil
}

// guestCommand is the hidden command that watches over one in the guest; guestBin
// says where the VM's own tools are.
const (
	guestCommand = "__guest"
	guestBin     = "FAKETART_GUEST_BIN"
)

// becomeGuest runs a command until it ends, or one of the descriptors 3 and 4
// closes.
func becomeGuest(argv []string) int {
	bin := os.Getenv(guestBin)
	os.Setenv("PATH", bin+":/usr/local/bin:/usr/bin:/bin")
	for _, tool := range []string{"sudo", "shutdown"} {
		if path, err := exec.LookPath(tool); err != nil || filepath.Dir(path) != bin {
			fmt.Fprintf(os.Stderr, "the guest's %s is not its own\n", tool)
			return 126
		}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(filepath.Dir(bin), "root"), "USER=admin"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, strings.TrimPrefix(err.Error(), "exec: "))
		return 127
	}
	for fd := uintptr(3); fd <= 4; fd++ {
		syscall.CloseOnExec(int(fd))
		go func() { // ends with the process
			_, _ = io.Copy(io.Discard, os.NewFile(fd, "watch"))
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}()
	}
	err := cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	if err != nil {
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}
