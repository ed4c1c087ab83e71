package chaos

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	flagDuration = flag.Duration("chaos.duration", 0, "length of TestChaos; 0 is the short form")
	flagSeed     = flag.Uint64("chaos.seed", 0, "seed of TestChaos; 0 is one for this minute")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestChaos is the proof that no failure of a controller or an etcd member is
// ever visible as a lost, doubled or flickering instance (F1 to F4, F7, F11, F16).
//
//	go test ./test/chaos -run TestChaos -chaos.seed 42
//	make soak DURATION=30m
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills servers for half a minute")
	}
	cfg := DefaultConfig()
	cfg.Seed = uint64(time.Now().Unix() / 60)
	if *flagSeed != 0 {
		cfg.Seed = *flagSeed
	}
	if *flagDuration > 0 {
		cfg.Duration = *flagDuration
	}
	bin, dir := build(t), t.ArtifactDir()
	t.Logf("seed %d: run it again with -chaos.seed %d; logs are in %s", cfg.Seed, cfg.Seed, dir)
	result, err := Run(t.Context(), cfg, bin, dir, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d faults, %d instances; keyed requests: p99 %s, longest %s; checked %d operations on %d instances",
		result.Faults, result.Created, result.P99.Round(time.Millisecond), result.Longest.Round(time.Millisecond), result.Checked.Operations, result.Checked.Instances)
	if result.Created == 0 || result.Faults == 0 {
		t.Error("nothing was created or nothing was harmed: this proves nothing")
	}
	if result.Failures > 0 {
		t.Errorf("%d keyed requests failed", result.Failures)
	}
	for _, v := range result.Violations {
		t.Errorf("violation: %s", v)
	}
	for i, p := range result.Problems {
		if i < 5 {
			t.Errorf("history: %s", p)
		}
	}
	if n := len(result.Problems); n > 5 {
		t.Errorf("history: %d problems in all", n)
	}
	for _, left := range result.Left {
		t.Errorf("left over: %s", left)
	}
	result.Draw(dir, t.Logf)
}

// build compiles the servers.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, pkg := range []string{"github.com/ankacluster/ankacluster/cmd/anka-controller", "go.etcd.io/etcd/server/v3"} {
		out := filepath.Join(bin, filepath.Base(strings.TrimSuffix(pkg, "/server/v3")))
		if strings.Contains(pkg, "etcd") {
			out = filepath.Join(bin, "etcd")
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	return bin
}

func TestPlanIsTheSameForASeedAndKeepsEnoughServersWell(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		faults := plan(seed, 10*time.Minute, 2*time.Second)
		if again := plan(seed, 10*time.Minute, 2*time.Second); fmt.Sprint(faults) != fmt.Sprint(again) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		if len(faults) < 100 {
			t.Errorf("seed %d: only %d faults in ten minutes", seed, len(faults))
		}
		for i, f := range faults {
			ill := map[int]bool{f.index: true}
			for _, other := range faults[:i] {
				if other.server == f.server && other.at+other.lasts > f.at {
					if other.index == f.index {
						t.Errorf("seed %d: %s during %s", seed, f, other)
					}
					ill[other.index] = true
				}
			}
			if limit := map[kindOfServer]int{controller: illControllers, member: illMembers}[f.server]; len(ill) > limit {
				t.Errorf("seed %d: %d of %s are ill at %s", seed, len(ill), f.server, f.at)
			}
		}
	}
}

func TestCutLinkHoldsBytesAndHealedOneDeliversThem(t *testing.T) {
	t.Parallel()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	p, err := newLink(echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = p.close()
		_ = echo.Close()
		<-served
	}()
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say := func(text string) {
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(limit time.Duration) string {
		_ = c.SetReadDeadline(time.Now().Add(limit))
		buf := make([]byte, 16)
		n, _ := c.Read(buf)
		return string(buf[:n])
	}
	say("one")
	if got := hear(time.Minute); got != "one" {
		t.Fatalf("before the cut: %q", got)
	}
	p.cut()
	say("two")
	if got := hear(100 * time.Millisecond); got != "" {
		t.Errorf("through a cut link: %q", got)
	}
	p.heal()
	if got := hear(time.Minute); got != "two" {
		t.Errorf("after healing: %q, want what was held", got)
	}
}
