package watch

import (
	"errors"
	"slices"
	"testing"
)

func revs(changes []Change) []int64 {
	out := make([]int64, len(changes))
	for i, c := range changes {
		out[i] = c.Rev
	}
	return out
}

func at(revs ...int64) []Change {
	out := make([]Change, len(revs))
	for i, r := range revs {
		out[i].Rev = r
	}
	return out
}

func TestAfterGivesWholeRevisionsInOrder(t *testing.T) {
	t.Parallel()
	l := NewLog(8)
	l.Reset(10)
	l.Append(13, at(11, 11, 13)...)
	l.Append(20, at(20, 20, 20)...)
	l.Append(25)
	for _, c := range []struct {
		rev   int64
		limit int
		want  []int64
		upTo  int64
	}{
		{10, 100, []int64{11, 11, 13, 20, 20, 20}, 25},
		{10, 1, []int64{11, 11}, 11},
		{11, 2, []int64{13, 20, 20, 20}, 25},
		{12, 1, []int64{13}, 13},
		{13, 3, []int64{20, 20, 20}, 25},
		{25, 10, nil, 25},
		{30, 10, nil, 30}, // of a controller that is ahead
	} {
		got, upTo, _, err := l.After(c.rev, c.limit)
		if err != nil || !slices.Equal(revs(got), c.want) || upTo != c.upTo {
			t.Errorf("After(%d, %d) = %v up to %d, %v; want %v up to %d", c.rev, c.limit, revs(got), upTo, err, c.want, c.upTo)
		}
	}
	if _, _, _, err := l.After(9, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("before the log: %v", err)
	}
}

func TestTheLogForgetsTheOldestInWholeRevisions(t *testing.T) {
	t.Parallel()
	l := NewLog(3)
	l.Reset(0)
	for rev := int64(1); rev <= 100; rev++ {
		l.Append(rev, at(rev, rev)...)
		got, upTo, _, err := l.After(rev-1, 10)
		if err != nil || len(got) != 2 || upTo != rev {
			t.Fatalf("at %d: %v up to %d, %v", rev, revs(got), upTo, err)
		}
		if len(l.changes) > 6 {
			t.Fatalf("%d changes are kept", len(l.changes))
		}
		if l.from >= 0 && len(l.changes) > 0 && l.changes[0].Rev <= l.from {
			t.Fatalf("a change of %d is kept, of which others were forgotten", l.from)
		}
	}
	if _, _, _, err := l.After(50, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("what was forgotten: %v", err)
	}
	l.Reset(200)
	if _, _, _, err := l.After(100, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("before a load: %v", err)
	}
}

func TestGrownIsClosedByTheNextChange(t *testing.T) {
	t.Parallel()
	l := NewLog(3)
	l.Reset(1)
	_, _, grown, err := l.After(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	l.Append(2)
	select {
	case <-grown:
		t.Fatal("woken without a change")
	default:
	}
	l.Append(3, at(3)...)
	<-grown
	_, _, grown, _ = l.After(3, 1)
	l.Reset(9)
	<-grown
}
