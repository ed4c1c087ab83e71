package health

import (
	"testing"
	"time"
)

func TestWhatAReadinessAnswerSays(t *testing.T) {
	for _, test := range []struct {
		code             int
		ordinary, opened Verdict // while the breaker is closed, and in its half-open slot
	}{
		{200, Pass, Pass},
		{204, Pass, Pass},
		{302, Fail, Fail},
		{401, Nothing, Nothing},
		{404, Nothing, Nothing},
		{429, Nothing, Fail},
		{500, Fail, Fail},
		{503, Fail, Fail},
	} {
		if got := JudgeReadiness(test.code, false); got != test.ordinary {
			t.Errorf("%d says %d, want %d", test.code, got, test.ordinary)
		}
		if got := JudgeReadiness(test.code, true); got != test.opened {
			t.Errorf("%d in the half-open slot says %d, want %d", test.code, got, test.opened)
		}
	}
}

func TestPaceOfProbes(t *testing.T) {
	cfg := DefaultProbe()
	began := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name    string
		h       Record
		stretch time.Duration
		after   time.Duration
		want    time.Duration
	}{
		{"well", Record{State: Healthy}, 0, time.Hour, 2 * time.Second},
		{"asked for less often", Record{State: Healthy}, 10 * time.Second, 0, 10 * time.Second},
		{"asked for more often", Record{State: Healthy}, time.Second, 0, 2 * time.Second},
		{"in doubt, whatever was asked", Record{State: Healthy, fails: 1}, 10 * time.Second, 0, 500 * time.Millisecond},
		{"ejected", Record{State: Ejected}, 0, 0, 400 * time.Millisecond},
		{"down for a minute", Record{State: Down}, 0, time.Minute - 1, 400 * time.Millisecond},
		{"down for eleven", Record{State: Down}, 0, 11 * time.Minute, 5 * time.Second},
		{"down for a day", Record{State: Down}, time.Minute, 24 * time.Hour, 5 * time.Second},
	} {
		test.h.Since = began
		if got := Interval(cfg, test.h, test.stretch, began.Add(test.after)); got != test.want {
			t.Errorf("%s: every %s, want %s", test.name, got, test.want)
		}
	}
}
