package cloud

import (
	"slices"
	"sync/atomic"
	"time"
)

// How long ago something happened is never the difference of two machines'
// clocks: a controller whose clock is wrong would end instances too early, or
// never. Revisions order what happens, and each process notes when it saw them, by
// its own clock. The keeper writes such notes to the fence, in time since the cloud
// began, so that a process that starts knows the age of old records. Stamps in
// records are for people.

// Ages notes when this process saw revisions. It is shared by the views that follow
// one another, and guarded by what guards them.
type Ages struct {
	marks []mark // both fields ascend
	// up is how old the cloud was when the fence was written, which this process saw
	// at upAt; the zero time means that no keeper of this version has written it.
	up   time.Duration
	upAt time.Time
	// Offset is how far the clock is taken to be ahead, for tests.
	Offset atomic.Int64
}

// Reset forgets what is of another etcd.
func (a *Ages) Reset() { a.marks, a.up, a.upAt = nil, 0, time.Time{} }

// Now is this machine's clock: for stamps, and for the ages of what this process saw.
func (v *View) Now() time.Time { return time.Now().UTC().Add(time.Duration(v.Ages.Offset.Load())) }

// mark says that all revisions up to rev had happened at the time at.
type mark struct {
	rev int64
	at  time.Time
}

// Note takes in that rev is the newest revision now. Marks that are closer to
// another than a sixteenth of their age, or a second, are dropped: an age may be
// told too low by that.
func (a *Ages) Note(rev int64, now time.Time) {
	n := len(a.marks)
	if n > 0 && rev < a.marks[n-1].rev { // another history: a restore of etcd
		a.Reset()
		n = 0
	}
	if n > 0 && rev == a.marks[n-1].rev {
		return
	}
	if n > 1 && now.Sub(a.marks[n-2].at) < time.Second {
		a.marks[n-1] = mark{rev, now}
		return
	}
	a.marks = thin(append(a.marks, mark{rev, now}), now, time.Second)
}

// thin keeps the newest mark and of the others those that are far enough apart.
func thin(marks []mark, now time.Time, least time.Duration) []mark {
	kept := marks[:0]
	for i, m := range marks {
		if i > 0 && i < len(marks)-1 && marks[i+1].at.Sub(kept[len(kept)-1].at) < max(least, now.Sub(m.at)/16) {
			continue
		}
		kept = append(kept, m)
	}
	return kept
}

// Seen returns when this process knew first that rev had happened; the zero time
// means that it does not know yet.
func (a *Ages) Seen(rev int64) time.Time {
	i, _ := slices.BinarySearchFunc(a.marks, rev, func(m mark, rev int64) int {
		switch {
		case m.rev < rev:
			return -1
		case m.rev > rev:
			return 1
		}
		return 0
	})
	if i == len(a.marks) {
		return time.Time{}
	}
	return a.marks[i].at
}

// FenceRecord is the fence: it moves every FenceTick, and tells the ages that the
// keeper knows.
type FenceRecord struct {
	At    time.Time     `json:"at"`    // for people
	Up    time.Duration `json:"up"`    // how long the cloud has had a keeper
	Marks []FenceMark   `json:"marks"` // up to longestAge ago
}

type FenceMark struct {
	Rev int64         `json:"rev"`
	Up  time.Duration `json:"up"`
}

// longestAge is the longest that anything is waited for.
const longestAge = 26 * time.Hour

// Adopt takes in the fence, which was written at rev; nil is none. A process that
// has no marks of its own gets the ages that the keeper knew: at least, for it may
// have been stopped since.
func (a *Ages) Adopt(rec *FenceRecord, rev int64, now time.Time) {
	if rec == nil {
		return
	}
	a.up, a.upAt = rec.Up, now
	if len(a.marks) > 0 {
		return
	}
	for _, m := range rec.Marks {
		if m.Rev < rev {
			a.marks = append(a.marks, mark{m.Rev, now.Add(m.Up - rec.Up)})
		}
	}
}

// Uptime returns how old the cloud is. Stores agree on it but for a moment.
func (a *Ages) Uptime(now time.Time) (time.Duration, bool) {
	if a.upAt.IsZero() {
		return 0, false
	}
	return a.up + now.Sub(a.upAt), true
}

// Record returns what the keeper writes to the fence.
func (a *Ages) Record(now time.Time) FenceRecord {
	up, _ := a.Uptime(now)
	rec := FenceRecord{At: now, Up: up, Marks: []FenceMark{}}
	for _, m := range thin(slices.Clone(a.marks), now, time.Minute) {
		if age := now.Sub(m.at); age < longestAge {
			rec.Marks = append(rec.Marks, FenceMark{m.rev, rec.Up - age})
		}
	}
	return rec
}

// Age returns how long ago a revision was, as far as this process knows: never
// more than is true. now is by its clock.
func (v *View) Age(rev int64, now time.Time) time.Duration {
	at := v.Ages.Seen(rev)
	if at.IsZero() {
		return 0
	}
	return max(0, now.Sub(at))
}

// AgeOf returns how long an instance has been as it is.
func (v *View) AgeOf(i *Instance, now time.Time) time.Duration { return v.Age(i.Rev, now) }

// orRev is the revision of a moment, or that of its record where the moment was
// written by a version that kept none.
func orRev(rev, record int64) int64 {
	if rev == 0 {
		return record
	}
	return rev
}
