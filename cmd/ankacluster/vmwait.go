package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// What VMs are waited for.
const (
	waitStarted = "started"
	waitGone    = "gone"
)

// vmWait follows VMs until each is what is waited for, or cannot become it any more.
type vmWait struct {
	c       *cli.Context
	what    string
	ids     []controllerapi.InstanceID
	short   func(string) string
	began   time.Time
	said    map[controllerapi.InstanceID]string // the last line about each
	last    map[controllerapi.InstanceID]controllerapi.Instance
	failed  map[controllerapi.InstanceID]string // why it does not become it
	waiting int
	lost    bool // the controllers are out of reach, and that was said
}

func newVMWait(c *cli.Context, ids []controllerapi.InstanceID, what string) *vmWait {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	return &vmWait{c: c, what: what, ids: ids, short: clouds.Short(words), began: time.Now(), waiting: len(ids),
		said: make(map[controllerapi.InstanceID]string), last: make(map[controllerapi.InstanceID]controllerapi.Instance),
		failed: make(map[controllerapi.InstanceID]string)}
}

// see is told of all VMs, and reports whether there is nothing to wait for any more.
func (w *vmWait) see(vms map[controllerapi.InstanceID]controllerapi.Instance, now time.Time) bool {
	w.lost = false
	w.waiting = 0
	for _, id := range w.ids {
		vm, there := vms[id]
		if there {
			w.last[id] = vm
		}
		met, why := w.judge(vm, there)
		delete(w.failed, id)
		if why != "" {
			w.failed[id] = why
		}
		if !met && why == "" {
			w.waiting++
		}
		w.tell(id, vm, there, now)
	}
	return w.waiting == 0
}

// judge says whether a VM is what is waited for, or why it cannot become it.
func (w *vmWait) judge(vm controllerapi.Instance, there bool) (met bool, why string) {
	gone := !there || vm.InstanceState == controllerapi.Terminated
	if w.what == waitGone {
		return gone, ""
	}
	switch {
	case gone:
		return false, "it is gone"
	case vm.InstanceState == controllerapi.Started:
		return true, ""
	case vm.InstanceState == controllerapi.Error:
		return false, vm.Message
	case vm.InstanceState == controllerapi.Terminating, vm.InstanceState == controllerapi.Stopping, vm.InstanceState == controllerapi.Stopped:
		return false, "somebody has ended it"
	}
	return false, ""
}

// tell says what is new about a VM, a line each.
func (w *vmWait) tell(id controllerapi.InstanceID, vm controllerapi.Instance, there bool, now time.Time) {
	if w.silent() {
		return
	}
	l := termstyle.Of(w.c.App.ErrWriter)
	state := "gone"
	if there {
		state = string(vm.InstanceState)
		if l.Terminal {
			state = vmState(vm)
		}
	}
	line := fmt.Sprintf("%s  %s", w.short(string(id)), l.Paint(vmLevel(vm.InstanceState), state))
	if vm.Message != "" {
		line += "  " + oneLine(vm.Message)
	}
	if w.said[id] == line {
		return
	}
	w.said[id] = line
	fmt.Fprintf(w.c.App.ErrWriter, "%4s  %s\n", brief(now.Sub(w.began)), line)
}

func (w *vmWait) silent() bool { return w.c.Bool("quiet") || w.c.Bool("json") }

// trouble says once that no controller answers as it should; the wait goes on. A stream
// that broke is none: it goes on at another controller.
func (w *vmWait) trouble(err error) {
	_, none := errors.AsType[*balancer.PassError](err)
	_, answered := controllerapi.Answered(err)
	if w.lost || w.silent() || !none && !answered {
		return
	}
	w.lost = true
	fmt.Fprintf(w.c.App.ErrWriter, "%4s  %v; it is tried again\n", brief(time.Since(w.began)), explainCloud(err))
}

// end says what has become of the VMs.
func (w *vmWait) end(ctx context.Context) error {
	var vms []controllerapi.Instance
	for _, id := range w.ids {
		vms = append(vms, w.last[id])
	}
	out := w.c.App.Writer
	switch {
	case w.c.Bool("json"):
		if err := printJSON(out, vms); err != nil {
			return err
		}
	case w.what == waitGone:
	case w.c.Bool("quiet") && w.c.Command.Name == "start":
		if err := printWords(w.c, w.ids); err != nil {
			return err
		}
	case !w.c.Bool("quiet"):
		w.reach(out, vms)
	}
	for _, id := range w.ids {
		if why, failed := w.failed[id]; failed {
			return hintf(fmt.Errorf("VM %s did not start: %s", w.short(string(id)), oneLine(why)), "ankacluster vm show %s tells more", w.short(string(id)))
		}
	}
	if w.waiting > 0 {
		cause := context.Cause(ctx)
		if errors.Is(cause, context.Canceled) {
			cause = errors.New("interrupted")
		}
		return hintf(fmt.Errorf("%s of %d: %w", count(w.waiting, "VM"), len(w.ids), cause), "it goes on by itself; ankacluster vm why %[1]s tells what it waits for, vm wait %[1]s waits again", w.short(string(w.ids[0])))
	}
	return nil
}

// reach prints how to reach what has started.
func (w *vmWait) reach(out io.Writer, vms []controllerapi.Instance) {
	for i, vm := range vms {
		if vm.InstanceState != controllerapi.Started {
			continue
		}
		f := newFacts(out)
		f.row(termstyle.Good, "VM", "%s has started after %s", w.short(string(w.ids[i])), brief(time.Since(w.began)))
		f.row(termstyle.None, "name", "%s", vm.Name)
		f.ways(vm.VMInfo)
		_ = f.w.Flush()
	}
}
