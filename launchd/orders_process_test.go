package launchd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/fakelaunchctl"
)

// TestRandomOrders does to 100 machines what people and accidents do, in random
// orders: after each wish the service is as it was wished, or the error says that it
// is switched off.
func TestRandomOrders(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ANKA_TEST_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		must(t, err)
	}
	t.Logf("ANKA_TEST_SEED=%d", seed)
	var wishes, refused int
	var mu sync.Mutex
	run := func(t *testing.T, i int) {
		o := &order{rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		o.mac = newMac(t, o.options())
		for range 8 {
			o.step()
		}
		mu.Lock()
		defer mu.Unlock()
		wishes, refused = wishes+o.wishes, refused+o.refused
	}
	orders := make(chan int)
	var workers sync.WaitGroup
	for range 8 { // they sleep most of the time
		workers.Go(func() {
			for i := range orders {
				t.Run(fmt.Sprint(i), func(t *testing.T) { run(t, i) })
			}
		})
	}
	for i := range 100 {
		orders <- i
	}
	close(orders)
	workers.Wait()
	t.Logf("%d wishes, %d of them answered with how to switch it on", wishes, refused)
}

// order is one random order.
type order struct {
	*mac
	rand            *rand.Rand
	log             []string
	installed       bool
	wishes, refused int
}

func (o *order) chance(n int) bool { return o.rand.IntN(n) == 0 }

func (o *order) options() fakelaunchctl.Options {
	pick := func(of ...int) int { return of[o.rand.IntN(len(of))] }
	return fakelaunchctl.Options{
		Form: []string{"", "13", "10.15", "10.10"}[o.rand.IntN(4)], Linger: time.Duration(pick(0, 0, 150)) * time.Millisecond,
		BootoutCode: pick(0, 36), GoneCode: pick(3, 113), LeavingCode: pick(5, 37), DisabledCode: pick(119, 5),
		EnableIgnored: o.chance(8), RunNever: o.chance(6), KickThrottled: o.chance(2), Forgetful: o.chance(6),
		RefuseLoads: pick(0, 0, 0, 1, 2), RefuseKicks: pick(0, 0, 1),
	}
}

func (o *order) step() {
	o.t.Helper()
	defer func() {
		if o.t.Failed() {
			o.t.Logf("%+v\n%s", o.opts, strings.Join(o.log, "\n"))
		}
	}()
	for range o.rand.IntN(3) {
		o.accident()
	}
	o.wish()
}

// accident is what others do: people at a terminal, the system, the program.
func (o *order) accident() {
	j, loaded := o.job()
	path := filepath.Join(o.daemons(), "ankacluster.plist")
	accidents := []func() string{
		func() string { o.signal(j, syscall.SIGTERM); return "kill" },
		func() string { o.signal(j, syscall.SIGKILL); return "kill -9" },
		func() string {
			for range 3 {
				j := o.waitOr(func(j job) bool { return j.pid != 0 || !j.scheduled() })
				o.signal(j, syscall.SIGKILL)
			}
			return "kill -9, three times"
		},
		func() string { o.launchd.Command("disable", "system/ankacluster"); return "disable" },
		func() string {
			o.launchd.Command("bootout", "system/ankacluster")
			if o.opts.Forgetful {
				// Nothing but the process knows of it now. Two agents of one
				// directory are kept apart by its lock.
				o.waitOr(func(job) bool { return !alive(j.pid) })
			}
			return "bootout"
		},
		func() string { o.launchd.Command("bootstrap", "system", path); return "bootstrap" },
		func() string { o.launchd.Command("kickstart", "-k", "system/ankacluster"); return "kickstart -k" },
		func() string { _ = os.Chmod(path, 0o666); return "chmod 666" },
		func() string { _ = os.Remove(path); return "rm" },
		func() string {
			if o.installed && !loaded {
				return "no crash"
			}
			o.version++
			_ = o.join(crashing) // it may be switched off
			o.installed = true
			return "join of a program that crashes"
		},
		func() string { o.reboot(); return "reboot" },
	}
	o.log = append(o.log, accidents[o.rand.IntN(len(accidents))]())
}

func (o *order) signal(j job, s syscall.Signal) {
	if j.pid != 0 {
		_ = syscall.Kill(j.pid, s) // it may have ended
	}
}

// waitOr waits a moment for the job to be as wanted.
func (o *order) waitOr(ok func(job) bool) (j job) {
	for range 1000 {
		if j, _ = o.job(); ok(j) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	return j
}

// wish is what ankacluster is asked for.
func (o *order) wish() {
	o.t.Helper()
	o.wishes++
	programs := []string{polite, polite, slow, stubborn}
	switch o.rand.IntN(6) {
	default:
		if o.chance(2) {
			o.version++
		}
		o.log = append(o.log, "join")
		err := o.join(programs[o.rand.IntN(len(programs))])
		o.installed = true
		if errors.Is(err, ErrDisabled) && o.opts.EnableIgnored {
			o.refused++
			return
		}
		if err != nil {
			o.t.Fatalf("join: %v", err)
		}
		o.wantRunning()
	case 4:
		o.log = append(o.log, "stop")
		if err := o.service().Stop(); err != nil {
			o.t.Fatalf("stop: %v", err)
		}
		_, err := os.Stat(filepath.Join(o.daemons(), "ankacluster.plist"))
		o.wantGone(err == nil)
	case 5:
		o.log = append(o.log, "disjoin")
		if err := o.service().Uninstall(); err != nil {
			o.t.Fatalf("disjoin: %v", err)
		}
		o.installed = false
		o.wantGone(false)
	}
}
