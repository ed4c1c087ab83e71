package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// The clock of one controller is hours off, and it is the keeper of what another
// has written: nothing is ended, kept or listed at another time than with clocks
// that agree.
func TestKeeperWithAWrongClockEndsNothingTooEarlyOrTooLate(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-26 * time.Hour, 26 * time.Hour} {
		t.Run(fmt.Sprint(off), func(t *testing.T) {
			t.Parallel()
			c := startCloud(t, 1, func(cfg *Config) {
				cfg.ClockOffset, cfg.CleanQueuesInterval, cfg.InstanceTimeOut = off, time.Second, 2*time.Second
			})
			keeper := c.controllers[0]
			eventually(t, "the one with the wrong clock is the keeper", keeper.store.Keeping)
			other := startController(t, c.etcd, c.registry.URL, func(cfg *Config) { cfg.InstanceTimeOut = 2 * time.Second })
			n := newNode(t, "n1", other)
			n.register()
			beat(t, n)
			saved := mustStart(t, other, api.StartRequest{})
			n.start(n.reserve(api.TaskStart))
			_, answer := do(t, "POST", other.URL+"/api/v1/image", `{"id":"`+string(saved)+`","tag":"x","target_vm_id":"tpl-1"}`)
			request := uuids.FindString(answer)
			n.reserve(api.TaskSaveImage)
			ended := mustStart(t, other, api.StartRequest{})
			n.start(n.reserve(api.TaskStart))
			waiting := mustStart(t, other, api.StartRequest{})
			if err := other.client().Terminate(t.Context(), ended); err != nil {
				t.Fatal(err)
			}
			n.terminate(n.reserve(api.TaskTerminate))
			if got := state(t, other, ended).InstanceState; got != api.Terminated {
				t.Errorf("an instance that has just ended is %s", got)
			}
			// The keeper has been at work for its rounds when this is done.
			eventually(t, "the ended instance leaves the list", func() bool {
				_, err := other.client().Instance(t.Context(), ended)
				return errors.Is(err, api.ErrNotFound)
			})
			if _, got := do(t, "GET", other.URL+"/api/v1/image?id="+request, ""); !strings.Contains(got, `"status":"pending"`) {
				t.Errorf("a save that is under way: %s", got)
			}
			for id, want := range map[api.InstanceID]api.InstanceState{saved: api.Pushing, waiting: ""} {
				got := state(t, other, id)
				if want != "" && got.InstanceState != want || got.InstanceState == api.Error {
					t.Errorf("%s is %s: %s", id, got.InstanceState, got.Message)
				}
			}
		})
	}
}

// What is created later comes later in lists, whichever controller's clock is
// wrong.
func TestListsAreInTheOrderOfCreationWhateverTheClocks(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	c.controllers = append(c.controllers, startController(t, c.etcd, c.registry.URL, func(cfg *Config) { cfg.ClockOffset = -2 * time.Hour }))
	var want []api.InstanceID
	for k := range 6 {
		want = append(want, mustStart(t, c.controllers[k%2], api.StartRequest{}))
	}
	for _, ctl := range c.controllers {
		list, err := ctl.client().Instances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []api.InstanceID
		for _, i := range list {
			got = append(got, i.InstanceID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("listed %v, created %v", got, want)
		}
	}
}

// A node whose clock was ahead when a session began, and is right now, is taken;
// a session that was replaced does not come back.
func TestSessionsAreOrderedByTheirArrival(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	register := func(session string, ahead time.Duration) error {
		_, err := n.call().Register(t.Context(), api.RegisterRequest{NodeID: "n1", Session: session, SessionStarted: time.Now().Add(ahead), Facts: n.facts})
		return err
	}
	for _, session := range []string{"first", "second", "third"} {
		ahead := map[string]time.Duration{"first": time.Hour, "second": 0, "third": -time.Hour}[session]
		for range 2 { // a copy of the request is no other session
			if err := register(session, ahead); err != nil {
				t.Errorf("%s: %v", session, err)
			}
		}
	}
	for _, session := range []string{"first", "second"} {
		if err := register(session, 2*time.Hour); !errors.Is(err, api.ErrSessionEnded) {
			t.Errorf("%s came back: got %v, want ErrSessionEnded", session, err)
		}
	}
}

// A second host with a copy of a node's state is refused, and the first goes on.
func TestCopyOfANodeIsRefused(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	register := func(session, hardware, place string) error {
		_, err := n.call().Register(t.Context(), api.RegisterRequest{NodeID: "n1", Session: session, Facts: n.facts, Host: api.HostIdentity{Hardware: hardware, Place: place}})
		return err
	}
	if err := register(n.session, "mac:a", "/state"); err != nil {
		t.Fatal(err)
	}
	n.sync()
	for _, copied := range [][2]string{{"mac:b", "/state"}, {"mac:a", "/elsewhere"}, {"product:b", "/state"}} {
		if err := register("copy", copied[0], copied[1]); !errors.Is(err, api.ErrOtherHost) {
			t.Errorf("%v: got %v, want ErrOtherHost", copied, err)
		}
	}
	n.sync() // the session is still the node's
	if err := register("next life", "mac:a", "/state"); err != nil {
		t.Errorf("the first host's next process: %v", err)
	}
	if err := register("agent of an older version", "", ""); err != nil {
		t.Errorf("an agent that tells nothing of its host: %v", err)
	}
	if err := register("copy", "mac:b", "/state"); !errors.Is(err, api.ErrOtherHost) {
		t.Errorf("after that: got %v, want ErrOtherHost", err)
	}
}
