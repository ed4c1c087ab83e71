package etcdkit

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestHedgedCallPassesAMemberThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		begun := time.Now()
		got, err := Hedged(t.Context(), ReadPolicy(10*time.Second), func(ctx context.Context) (int, error) {
			if calls.Add(1) == 1 {
				<-ctx.Done() // accepted, never answered
				return 0, ctx.Err()
			}
			return 7, nil
		})
		if took := time.Since(begun); got != 7 || err != nil || took > 200*time.Millisecond {
			t.Errorf("got %d %v after %v", got, err, took)
		}
	})
}

func TestHedgedCallIsRepeatedWithinItsTimeAndNotLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := Hedged(t.Context(), ReadPolicy(3*time.Second), func(context.Context) (int, error) {
			return 0, rpctypes.ErrNoLeader
		})
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, rpctypes.ErrNoLeader) || time.Since(begun) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

func TestF1FutureRevisionIsNotTakenAsAbsent(t *testing.T) {
	for err, passing := range map[error]bool{
		rpctypes.ErrFutureRev: true, rpctypes.ErrNoLeader: true, rpctypes.ErrTimeout: true, rpctypes.ErrNotLeader: true,
		rpctypes.ErrNoSpace: false, rpctypes.ErrRequestTooLarge: false, rpctypes.ErrLeaseNotFound: false,
	} {
		if got := Permanent(err) == nil; got != passing {
			t.Errorf("%v: repeated %v, want %v", err, got, passing)
		}
	}
	if !errors.Is(Permanent(rpctypes.ErrNoSpace), ErrNoSpace) {
		t.Error("a full database is not told as such")
	}
}
