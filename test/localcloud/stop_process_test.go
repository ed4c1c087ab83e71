package localcloud

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// What ran is ended, etcd last; a pid that was given to another program is left.
func TestRecordedServersEndEtcdLast(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"etcd-1", "controller-1", "registry-1"} {
		cmd := exec.Command(sleep, "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		if err := os.WriteFile(filepath.Join(dir, name+".pid"), fmt.Appendln(nil, cmd.Process.Pid), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stranger.pid"), fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	ended, err := StopRecorded(t.Context(), dir, []string{sleep}, func(name string) { said = append(said, name) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ended, said) || len(ended) != 3 || ended[2] != "etcd-1" {
		t.Errorf("ended %v, said %v, want three with etcd-1 last", ended, said)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.pid")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}
