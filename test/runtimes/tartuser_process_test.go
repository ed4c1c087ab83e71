package runtimes

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/tart"
)

// An agent of root's starts VMs of tart's as a user who is logged in: images, VMs and
// the VM's process are that user's. As root it would start none. (D1)
func TestTartVMsAreTheUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start VMs as another user")
	}
	u, err := user.Lookup("nobody")
	check(t, "user", err)
	uid, err := strconv.Atoi(u.Uid)
	check(t, "uid", err)
	registry := newRegistry(t)
	kind := kinds[len(kinds)-1]
	kind.create(kind.new(t), registry, "v1")
	img := demo
	img.ID = imageID(t, registry)
	m := newTart(t)
	for _, dir := range []string{m.home, binDir} {
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			check(t, "chmod", os.Chmod(dir, 0o755))
		}
	}
	check(t, "chown", os.Chown(m.home, uid, uid))
	t.Setenv("FAKETART_CONSOLE_UID", u.Uid)
	dir := t.TempDir()
	open := func(name string) hypervisor.Runtime {
		return tart.New(tart.Config{Path: m.fake, Home: m.home, User: name, Dir: filepath.Join(dir, "runs"), Timeouts: tart.DefaultTimeouts()},
			command.New(filepath.Join(dir, "notes"), zap.NewNop(), nil))
	}
	rt, ctx := open("nobody"), t.Context()
	check(t, "pull", rt.Pull(ctx, img, hypervisor.Source{URL: registry}))
	id, err := rt.Clone(ctx, img, "vm1")
	check(t, "clone", err)
	check(t, "configure", rt.Configure(ctx, id, hypervisor.Options{CPU: 3}))

	asRoot := open("")
	err = asRoot.Start(ctx, id, hypervisor.StartOptions{Timeout: time.Minute})
	for deadline := time.Now().Add(time.Minute); err == nil && time.Now().Before(deadline); {
		var vm hypervisor.VM // it took the VM for a moment
		if vm, err = asRoot.Show(ctx, id); err == nil {
			err = vm.Failure
		}
	}
	if !errors.Is(err, hypervisor.ErrKeychain) || !strings.Contains(err.Error(), "--tart-user") {
		t.Errorf("as root: %v", err)
	}

	check(t, "start", rt.Start(ctx, id, hypervisor.StartOptions{Timeout: time.Minute}))
	until(t, rt, id, "it has an address", func(vm hypervisor.VM) bool { return vm.IP != "" })
	res, err := rt.Run(ctx, id, hypervisor.Script{Text: []byte("id -u; echo kept > file; exit 7")})
	if err != nil || res.ExitCode != 7 || string(res.Stdout) != u.Uid+"\n" {
		t.Errorf("script: %+v, %v", res, err)
	}
	check(t, "walk", filepath.WalkDir(filepath.Join(m.home, "vms"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != uid {
			t.Errorf("%s is of user %d", path, owner)
		}
		return nil
	}))
	check(t, "stop", rt.Stop(ctx, id, false))
	check(t, "delete", rt.Delete(ctx, id))
	check(t, "remove", rt.RemoveImage(ctx, img))
}
