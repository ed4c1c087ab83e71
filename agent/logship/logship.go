// Package logship sends log lines to where a fleet's logs are collected. It is
// made never to be in the way: Write only copies into a bounded buffer, one
// goroutine sends with a deadline and a back-off, and what does not fit is
// dropped, oldest first, and counted (A1).
package logship

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// maxBuffer is what waits at most, in bytes: an hour of a busy agent.
	maxBuffer = 1 << 20
	// maxBatch is sent at once.
	maxBatch = 256 << 10
	// every is how long lines are gathered.
	every = 5 * time.Second
	// sendTimeout bounds one batch.
	sendTimeout = 15 * time.Second
	// maxPause is the longest back-off.
	maxPause = 5 * time.Minute
)

// Send delivers whole lines. It may be called again with the same lines.
type Send func(ctx context.Context, lines []byte) error

// Shipper is an io.Writer of lines. It is safe for concurrent use.
type Shipper struct {
	send    Send
	enabled func() bool
	filled  chan struct{} // capacity 1: there are new lines

	mu      sync.Mutex
	buf     []byte // guarded by mu; whole lines
	dropped int    // guarded by mu; lines since the last batch
	lost    int    // guarded by mu; lines ever dropped
}

// New returns a shipper; nothing is sent before Run. While enabled says false,
// lines are discarded.
func New(send Send, enabled func() bool) *Shipper {
	return &Shipper{send: send, enabled: enabled, filled: make(chan struct{}, 1)}
}

// Write takes one or more whole lines. It never waits and never fails.
func (s *Shipper) Write(p []byte) (int, error) {
	if !s.enabled() {
		return len(p), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p) > maxBuffer {
		s.dropLocked(bytes.Count(p, newline))
		return len(p), nil
	}
	for len(s.buf)+len(p) > maxBuffer {
		end := bytes.IndexByte(s.buf, '\n') + 1
		if end == 0 {
			end = len(s.buf)
		}
		s.buf = s.buf[end:]
		s.dropLocked(1)
	}
	s.buf = append(s.buf, p...)
	select {
	case s.filled <- struct{}{}:
	default:
	}
	return len(p), nil
}

var newline = []byte{'\n'}

func (s *Shipper) dropLocked(lines int) {
	s.dropped += lines
	s.lost += lines
}

// Sync has nothing to do: Run sends in its own time.
func (s *Shipper) Sync() error { return nil }

// Dropped is how many lines were dropped since the start.
func (s *Shipper) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Run sends until ctx ends. It sleeps while there are no lines.
func (s *Shipper) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.filled:
		}
		for pause := every; ; pause = min(2*pause, maxPause) {
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
			if s.sendAll(ctx) {
				break
			}
		}
	}
}

// sendAll sends what waits, and reports whether all of it arrived.
func (s *Shipper) sendAll(ctx context.Context) bool {
	for batch := s.take(); len(batch) > 0; batch = s.take() {
		sendCtx, cancel := context.WithTimeout(ctx, sendTimeout)
		err := s.send(sendCtx, batch)
		cancel()
		if err != nil {
			s.putBack(batch)
			return false
		}
	}
	return true
}

// take removes up to a batch of whole lines.
func (s *Shipper) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) == 0 {
		return nil
	}
	var head []byte
	if s.dropped > 0 {
		head = fmt.Appendf(nil, `{"level":"warn","msg":"log lines dropped","lines":%d}`+"\n", s.dropped)
		s.dropped = 0
	}
	end := len(s.buf)
	if end > maxBatch {
		if end = bytes.LastIndexByte(s.buf[:maxBatch], '\n') + 1; end == 0 {
			end = bytes.IndexByte(s.buf, '\n') + 1 // one very long line
		}
		if end == 0 {
			end = len(s.buf)
		}
	}
	batch := append(head, s.buf[:end]...)
	s.buf = s.buf[end:]
	if len(s.buf) == 0 {
		s.buf = nil // let go of the memory of a burst
	}
	return batch
}

// putBack keeps a batch for the next try, unless newer lines need the room.
func (s *Shipper) putBack(batch []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(batch)+len(s.buf) > maxBuffer {
		s.dropLocked(bytes.Count(batch, newline))
		return
	}
	s.buf = append(batch, s.buf...)
}
