package cloud

import (
	"encoding/json"
	"testing"
	"time"
)

// An age is never told too high, and too low by a second or a sixteenth at most,
// however often there are changes.
func TestAgesOfRevisions(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	for _, every := range []time.Duration{50 * time.Millisecond, time.Second, 7 * time.Second, 10 * time.Minute} {
		var a Ages
		n := int64(30 * time.Hour / max(every, 2*time.Second))
		at := func(rev int64) time.Time { return begin.Add(time.Duration(rev) * every) }
		for rev := int64(1); rev <= n; rev++ {
			a.Note(rev, at(rev))
		}
		now := at(n)
		for rev := int64(1); rev <= n; rev += max(1, n/500) {
			is := now.Sub(at(rev))
			told := now.Sub(a.Seen(rev))
			if told > is || told < is-max(2*time.Second, is/8)-every {
				t.Fatalf("every %v: the age of revision %d is told as %v, it is %v", every, rev, told, is)
			}
		}
		if len(a.marks) > 400 {
			t.Errorf("every %v: %d marks are kept", every, len(a.marks))
		}
		if !a.Seen(n + 1).IsZero() {
			t.Error("a revision to come was seen")
		}
	}
}

// A Store that starts knows the age of old records from the keeper's clock, and
// not from the stamps of machines.
func TestAgesAreHandedOnByTheClock(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	var keeper Ages
	var rec FenceRecord
	var written int64
	write := func(rev int64, now time.Time) {
		data, err := json.Marshal(keeper.Record(now))
		if err != nil {
			t.Fatal(err)
		}
		rec, written = FenceRecord{}, rev
		if err := json.Unmarshal(data, &rec); err != nil {
			t.Fatal(err)
		}
		keeper.Note(rev, now)
		keeper.Adopt(&rec, written, now)
	}
	for rev := int64(2); rev <= 600; rev++ { // three hours
		write(rev, begin.Add(time.Duration(rev)*20*time.Second))
	}
	for _, skew := range []time.Duration{-2 * time.Hour, 0, 2 * time.Hour} {
		var other Ages
		start := begin.Add(600*20*time.Second + skew) // by its own clock
		other.Adopt(&rec, written, start)
		other.Note(600, start)
		for _, rev := range []int64{100, 300, 590} {
			is := time.Duration(600-rev) * 20 * time.Second
			told := start.Sub(other.Seen(rev))
			if told > is || told < is-2*time.Minute-is/8 {
				t.Errorf("clock %v off: the age of revision %d is told as %v, it is %v", skew, rev, told, is)
			}
		}
		a, _ := keeper.Uptime(begin.Add(601 * 20 * time.Second))
		b, ok := other.Uptime(start.Add(20 * time.Second))
		if !ok || a != b {
			t.Errorf("clock %v off: the cloud is %v old, and %v for another Store", skew, a, b)
		}
	}
	var after Ages
	after.Note(1000, begin)
	after.Note(10, begin.Add(time.Hour))
	if at := after.Seen(5); !at.Equal(begin.Add(time.Hour)) {
		t.Errorf("after a restore of etcd, old marks are kept: %v", at)
	}
}
