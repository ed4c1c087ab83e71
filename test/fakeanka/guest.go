package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// guestExit is the exit code of a guest command, which becomes ours.
type guestExit int

func (g guestExit) Error() string { return fmt.Sprintf("guest command ended with %d", int(g)) }

// runInVM runs a command in the VM's directory, with our stdin and stdout. The
// command is the guest's: it goes on when this process is killed and ends with
// the VM.
func runInVM(ctx context.Context, e *env, o options) (any, error) {
	v, err := e.one(o)
	if err != nil {
		return nil, err
	}
	if !e.store.running(v) {
		if _, err := startVM(ctx, e, o); err != nil {
			return nil, err
		}
	}
	argv := o.args[1:]
	if len(argv) == 0 {
		argv = []string{"sh", "-s"}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{guestCommand, e.store.guestsDir(v), "--"}, argv...)...)
	cmd.Dir = e.store.rootDir(v)
	if w := o.value("workdir"); w != "" {
		cmd.Dir = filepath.Join(cmd.Dir, filepath.Clean("/"+w))
	}
	vars, err := guestEnv(e, v, o)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(vars)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), guestEnvVar+"="+string(data))
	if err := e.store.guestTools(self); err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if o.has("background") {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, nil, nil
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if o.has("background") {
		return nil, cmd.Process.Release()
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil, errors.Join(err, noEnvelope())
	}
	if code := exit.ExitCode(); code >= 0 {
		return nil, guestExit(code)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return nil, guestExit(128 + int(ws.Signal()))
	}
	return nil, guestExit(1)
}

// noEnvelope ends a successful run: its stdout is the guest's alone.
func noEnvelope() error { return guestExit(0) }

// guestCommand is the hidden command that becomes the guest's; guestEnvVar holds
// the guest's own environment meanwhile.
const (
	guestCommand = "__guest"
	guestEnvVar  = "FAKEANKA_GUEST_ENV"
)

// becomeGuest leaves a file, named by its process group and locked for as long
// as anything of it lives, by which a stop finds the guest; then it turns into
// the command. The file is there before the command begins, whatever becomes of
// the `run` that started it.
func becomeGuest(_ context.Context, _ *env, o options) (any, error) {
	dir, argv := o.args[0], o.args[1:]
	var vars []string
	if err := json.Unmarshal([]byte(os.Getenv(guestEnvVar)), &vars); err != nil {
		return nil, err
	}
	for _, v := range vars {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			_ = os.Setenv("PATH", path)
		}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return nil, guestExit(127)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	fd, err := syscall.Open(filepath.Join(dir, strconv.Itoa(os.Getpid())), syscall.O_RDWR|syscall.O_CREAT, 0o644) // without O_CLOEXEC: the command inherits it
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
		return nil, err
	}
	return nil, syscall.Exec(path, argv, vars)
}

func guestEnv(e *env, v *vm, o options) ([]string, error) {
	vars := []string{"PATH=" + e.store.guestBin() + ":" + os.Getenv("PATH"), guestHomeVar + "=" + e.store.vmDir(v.UUID), "HOME=" + e.store.rootDir(v), "USER=anka", "ANKA_VM_NAME=" + v.Name, "ANKA_VM_UUID=" + v.UUID}
	if names := os.Getenv("FAKEANKA_GUEST_DISK"); names != "" {
		vars = append(vars, "FAKEANKA_GUEST_DISK="+names)
	}
	if o.has("E") {
		vars = append(os.Environ(), vars...)
	}
	if path := o.value("env-file"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if line := strings.TrimSpace(sc.Text()); line != "" && line[0] != '#' {
				vars = append(vars, line)
			}
		}
	}
	for _, kv := range o.flags["e"] {
		if !strings.Contains(kv, "=") {
			kv += "=" + os.Getenv(kv)
		}
		vars = append(vars, kv)
	}
	return vars, nil
}
