package attempt

import (
	"testing"
	"time"
)

// Repeats are at most a fifth of the requests of the last ten seconds, and ten a
// second on top.
func TestBudgetIsAShareAndAReserve(t *testing.T) {
	b := newBudget(RetryConfig{Share: 0.2, Reserve: 10, Window: 10 * time.Second})
	now := time.Now()
	taken := func(at time.Time) (n int) {
		for n < 10_000 && b.take(at) {
			n++
		}
		return n
	}
	for range 500 {
		b.request(now)
	}
	if n := taken(now); n != 200 {
		t.Errorf("%d repeats after 500 requests, want 100 for them and 100 in reserve", n)
	}
	if n := taken(now.Add(9 * time.Second)); n != 0 {
		t.Errorf("%d repeats more in the same window, want none", n)
	}
	if n := taken(now.Add(10 * time.Second)); n != 100 {
		t.Errorf("%d repeats when the window has passed, want the reserve of 100", n)
	}
}
