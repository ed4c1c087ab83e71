package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runVM is a VM: it lives as long as this process.
func runVM(_ context.Context, s *store, o options) error {
	v, c, err := s.load(o.args[0]) // before the VM is taken: closing its file would end that
	if err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	clash, err := s.anyHasMAC(c.MACAddress, true, v.name())
	if err == nil && clash {
		fmt.Println("There is already a running VM with the same MAC address!")
		c.MACAddress = newMAC()
		err = v.save(c)
	}
	var held *os.File
	var free bool
	if err == nil {
		held, free, err = v.take()
	}
	unlock()
	if err != nil {
		return err
	}
	if !free {
		return &runtimeError{fmt.Sprintf("VM %q is already running!", v.name()), 2}
	}
	defer held.Close()
	if err := errors.Join(s.checkLimit(v, c), checkKeychain(c)); err != nil {
		return err
	}
	return s.live(v, c, o.has("suspendable"))
}

// checkLimit is what the system does: it lets two macOS VMs run at once.
func (s *store) checkLimit(v vm, c config) error {
	limit, err := strconv.Atoi(cmp.Or(os.Getenv("FAKETART_MAX_RUNNING"), "2"))
	if err != nil || limit == 0 || c.OS != "darwin" {
		return err
	}
	lost, err := strconv.Atoi(cmp.Or(os.Getenv("FAKETART_LOST_SLOTS"), "0"))
	if err != nil {
		return err
	}
	vms, err := s.localVMs()
	if err != nil {
		return err
	}
	var others []string
	for _, other := range vms {
		if other.name() == v.name() || other.pid() == 0 {
			continue // our own config.json must not be opened and closed again
		}
		if oc, err := other.config(); err == nil && oc.OS == "darwin" {
			others = append(others, other.name())
		}
	}
	if len(others)+lost < limit {
		return nil
	}
	if len(others) == 0 {
		return failf("The number of VMs exceeds the system limit")
	}
	return failf("The number of VMs exceeds the system limit (other running VMs: %s)", strings.Join(others, ", "))
}

// live boots the VM and waits for its end.
func (s *store) live(v vm, c config, suspendable bool) error {
	crash, hang, err := s.fate()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4) // more than the signals that end it
	signal.Notify(signals, os.Interrupt, syscall.SIGUSR1, syscall.SIGTERM)
	_ = os.Remove(v.path(bootedFile)) // of the run before
	if err := os.Remove(v.path(stateFile)); err == nil {
		fmt.Println("restoring VM state from a snapshot...\nresuming VM...")
	}
	if err := os.Chdir(v.dir); err != nil { // a socket's path has little room
		return err
	}
	_ = os.Remove("control.sock")
	l, err := net.Listen("unix", "control.sock")
	if err != nil {
		return err
	}
	g, err := newGuests(l.(*net.UnixListener), v)
	if err != nil {
		return err
	}
	defer g.end()
	bootTime, err := time.ParseDuration(cmp.Or(os.Getenv("FAKETART_BOOT"), "0s"))
	if err != nil {
		return err
	}
	boot := time.After(bootTime)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-boot:
			if hang {
				continue
			}
			if err := s.boot(v, c); err != nil {
				return err
			}
			g.serve()
		case <-crash:
			fmt.Fprintln(os.Stderr, "guest has stopped the virtual machine due to error: it was asked to crash")
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case sig := <-signals:
			switch {
			case hang:
			case sig == syscall.SIGTERM:
				return failf("terminated")
			case sig == os.Interrupt:
				_ = os.Remove(v.path(bootedFile))
				return nil
			case !suspendable:
				return failf("Failed to suspend the VM: the configuration does not support it")
			case c.OS != "darwin":
				return &validationError{"You can only suspend macOS VMs", "run <name>"}
			default:
				fmt.Println("creating a snapshot...")
				return errors.Join(os.WriteFile(v.path(stateFile), []byte("memory"), 0o644), os.Remove(v.path(bootedFile)))
			}
		case <-tick.C:
			if _, err := os.Stat(v.path(bootedFile)); err == nil { // the guest goes on asking for an address
				if _, err := s.obtain(c.MACAddress); err != nil {
					return err
				}
			}
			// A test that was killed cannot stop its VMs.
			if _, err := os.Stat(v.path("config.json")); errors.Is(err, os.ErrNotExist) {
				return nil
			}
		}
	}
}

// boot is what a guest does that has come up.
func (s *store) boot(v vm, c config) error {
	if _, err := s.obtain(c.MACAddress); err != nil {
		return err
	}
	if os.Getenv("FAKETART_GUEST_AGENT") == "grow" {
		if err := os.WriteFile(v.path(usedFile), []byte(strconv.Itoa(v.diskGB())), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(v.path(bootedFile), nil, 0o644)
}

// fate is what is to befall this VM.
func (s *store) fate() (crash <-chan time.Time, hang bool, err error) {
	after, ok := strings.CutPrefix(s.vmFault, "crash:")
	if !ok {
		return nil, s.vmFault == "hang", nil
	}
	d, err := time.ParseDuration(after)
	return time.After(d), false, err
}
