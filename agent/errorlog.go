package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// EventStatus is an error of the last while.
type EventStatus struct {
	Time    time.Time `json:"time"`
	What    string    `json:"what"`
	Message string    `json:"message"`
	Count   int       `json:"count"` // in a row
}

// maxLastErrors bounds what status remembers.
const maxLastErrors = 20

// errorLog remembers the last errors for status. It is safe for concurrent use.
type errorLog struct {
	log *zap.Logger

	mu   sync.Mutex
	last []EventStatus // guarded by mu; newest last, bounded
}

// note remembers an error; the same one again is counted.
func (l *errorLog) note(what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := EventStatus{Time: time.Now(), What: what, Message: err.Error(), Count: 1}
	if n := len(l.last); n > 0 && l.last[n-1].What == e.What && l.last[n-1].Message == e.Message {
		e.Count += l.last[n-1].Count
		l.last = l.last[:n-1]
	}
	l.last = append(l.last, e)
	if over := len(l.last) - maxLastErrors; over > 0 {
		l.last = slices.Delete(l.last, 0, over)
	}
}

// fail notes an error that is worked on by repeating, unless it is ctx's end.
func (l *errorLog) fail(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	l.note(what, err)
	l.log.Warn(what, zap.Error(err))
}

// list returns a copy, never nil.
func (l *errorLog) list() []EventStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]EventStatus{}, l.last...)
}
