package balancer

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRequestUnderWayEndsAtADrainedEndpoint(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		w.fakes["a"].set(after(300*time.Millisecond, say("a")))
		w.fakes["b"].set(after(300*time.Millisecond, say("b")))
		answers := make(chan string, 2)
		for range 2 { // one to each, and neither may be sent again
			go func() { answers <- w.ask("POST", "/x", time.Minute) }()
		}
		if !w.until(time.Second, func() bool { return w.state("a").InFlight == 1 && w.state("b").InFlight == 1 }) {
			t.Fatal("the requests did not go to different endpoints")
		}
		if err := w.b.Drain("http://b/", false); err != nil {
			t.Fatal(err)
		}
		if got := <-answers + <-answers; got != "200 a200 b" && got != "200 b200 a" {
			t.Errorf("got %q", got)
		}
		if b := w.state("b"); b.State != Draining || b.Reason != "drained by hand" || b.Eligible || b.Ejections != 0 || b.Breaker != "closed" {
			t.Errorf("the drained endpoint is %+v", b)
		}
	})
}

func TestLastUsableEndpointIsDrainedByForceOnly(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.fakes["a"].setReady(status(http.StatusServiceUnavailable))
		if !w.until(time.Minute, func() bool { return w.state("a").State == Down }) {
			t.Fatal("a is not down")
		}
		if err := w.b.Drain("http://b", false); err != nil {
			t.Fatal(err)
		}
		for _, last := range []string{"http://c", "http://a"} { // a is down: to drain it would leave c alone, which is as before
			if err := w.b.Drain(last, false); errors.Is(err, ErrLastUsable) != (last == "http://c") {
				t.Errorf("%s: %v", last, err)
			}
		}
		if got := w.ask("GET", "/x", time.Second); got != "200 c" {
			t.Errorf("after a refusal: %q", got)
		}
		if err := w.b.Drain("http://c", true); err != nil {
			t.Fatal(err)
		}
		if got := w.ask("GET", "/x", time.Second); !strings.Contains(got, "draining: drained by hand") {
			t.Errorf("with all drained: %q", got)
		}
		if err := w.b.Drain("http://d", true); !errors.Is(err, ErrNoMember) {
			t.Errorf("what is no member: %v", err)
		}
	})
}

// A server that is drained is restarted and announced again, or the node is: neither
// puts it back to use.
func TestDrainOutlastsMembershipAndProcess(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		w.serve("b")
		since := time.Now().Add(-time.Hour)
		w.b.SetDrained(map[string]time.Time{"http://b": since})
		members := func(n int) { // changes that are near each other are applied together
			if !w.until(10*time.Second, func() bool { return len(w.b.Status().Endpoints) == n }) {
				t.Fatalf("%d members, want %d", len(w.b.Status().Endpoints), n)
			}
		}
		for range 2 {
			w.b.SetMembers(OriginLearned, urls("a", "b"))
			members(2)
			if b := w.state("b"); b.State != Draining || !b.Since.Equal(since) {
				t.Fatalf("b is %+v", b)
			}
			w.b.SetMembers(OriginLearned, urls("a"))
			members(1)
			if at := w.b.Drained()["http://b"]; !at.Equal(since) {
				t.Errorf("drained since %v", at)
			}
		}
		if err := w.b.Undrain("http://b"); err != nil || len(w.b.Drained()) > 0 {
			t.Errorf("undrain of what is no member now: %v, left %v", err, w.b.Drained())
		}
		if err := w.b.Undrain("http://b"); !errors.Is(err, ErrNoMember) {
			t.Errorf("undrain of what is neither drained nor a member: %v", err)
		}
		w.b.SetMembers(OriginLearned, urls("a", "b"))
		if !w.until(time.Minute, func() bool { return w.state("b").State == Healthy }) {
			t.Errorf("b is %+v", w.state("b"))
		}
		if hits, _ := w.fakes["b"].counts(); hits > 0 {
			t.Errorf("%d requests went to b", hits)
		}
	})
}

func TestUndrainedEndpointComesBackOnceItsProbesPass(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		if err := w.b.Drain("http://b", false); err != nil {
			t.Fatal(err)
		}
		w.fakes["b"].setReady(status(http.StatusServiceUnavailable))
		if !w.until(time.Minute, func() bool { return strings.Contains(w.state("b").Reason, "answered 503") }) {
			t.Fatalf("it was not probed: %+v", w.state("b"))
		}
		if err := w.b.Undrain("http://b"); err != nil {
			t.Fatal(err)
		}
		if b := w.state("b"); b.State != Down || !strings.HasPrefix(b.Reason, "drain ended, and its probes fail") {
			t.Errorf("undrained while its probes fail: %+v", b)
		}
		w.load("GET", "/x", time.Second, 10*time.Millisecond, "200")
		if hits, _ := w.fakes["b"].counts(); hits > 0 {
			t.Errorf("%d requests went to b", hits)
		}
		w.fakes["b"].setReady(status(http.StatusOK))
		if !w.until(10*time.Second, func() bool { b := w.state("b"); return b.State == Healthy && b.Weight < 0.2 }) {
			t.Errorf("b is %+v, want a small share", w.state("b"))
		}
	})
}
