package balancer

import (
	"testing"
	"time"
)

func TestWhatAReadinessAnswerSays(t *testing.T) {
	for _, test := range []struct {
		code             int
		ordinary, opened verdict // while the breaker is closed, and in its half-open slot
	}{
		{200, verdictPass, verdictPass},
		{204, verdictPass, verdictPass},
		{302, verdictFail, verdictFail},
		{401, verdictNone, verdictNone},
		{404, verdictNone, verdictNone},
		{429, verdictNone, verdictFail},
		{500, verdictFail, verdictFail},
		{503, verdictFail, verdictFail},
	} {
		if got := judgeReady(test.code, false); got != test.ordinary {
			t.Errorf("%d says %d, want %d", test.code, got, test.ordinary)
		}
		if got := judgeReady(test.code, true); got != test.opened {
			t.Errorf("%d in the half-open slot says %d, want %d", test.code, got, test.opened)
		}
	}
}

func TestPaceOfProbes(t *testing.T) {
	cfg := defaultProbe()
	began := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name    string
		h       health
		stretch time.Duration
		after   time.Duration
		want    time.Duration
	}{
		{"well", health{state: Healthy}, 0, time.Hour, 2 * time.Second},
		{"asked for less often", health{state: Healthy}, 10 * time.Second, 0, 10 * time.Second},
		{"asked for more often", health{state: Healthy}, time.Second, 0, 2 * time.Second},
		{"in doubt, whatever was asked", health{state: Healthy, fails: 1}, 10 * time.Second, 0, 500 * time.Millisecond},
		{"ejected", health{state: Ejected}, 0, 0, 400 * time.Millisecond},
		{"down for a minute", health{state: Down}, 0, time.Minute - 1, 400 * time.Millisecond},
		{"down for eleven", health{state: Down}, 0, 11 * time.Minute, 5 * time.Second},
		{"down for a day", health{state: Down}, time.Minute, 24 * time.Hour, 5 * time.Second},
	} {
		test.h.since = began
		if got := probeInterval(cfg, test.h, test.stretch, began.Add(test.after)); got != test.want {
			t.Errorf("%s: every %s, want %s", test.name, got, test.want)
		}
	}
}
