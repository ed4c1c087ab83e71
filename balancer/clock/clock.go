// Package clock keeps moments in atomics, for what is read without a lock.
package clock

import "time"

// firstMoment is before every time that is noted, also in a test whose clock
// begins in the year 2000.
var firstMoment = time.Now().Add(-50 * 365 * 24 * time.Hour)

// Nano is t as it is kept in an atomic: nanoseconds on the clock that nobody
// sets, above 0, so that 0 can be "never". What is due in a second must not wait
// an hour because the time of day was set back by one.
func Nano(t time.Time) int64 { return int64(t.Sub(firstMoment)) }

// At is the time that Nano made n of.
func At(n int64) time.Time { return firstMoment.Add(time.Duration(n)) }
