package logship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func always() bool { return true }

func run(t *testing.T, s *Shipper) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestLinesArriveInOrderAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got bytes.Buffer
		calls := 0
		s := New(func(_ context.Context, lines []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls < 4 {
				return errors.New("no registry")
			}
			got.Write(lines)
			return nil
		}, always)
		run(t, s)
		var want strings.Builder
		for n := range 100 {
			line := fmt.Sprintf("line %d\n", n)
			want.WriteString(line)
			_, _ = s.Write([]byte(line))
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if got.String() != want.String() {
			t.Errorf("got %d bytes, want %d; first %.60q", got.Len(), want.Len(), got.String())
		}
	})
}

// A1: a registry that accepts and never answers costs memory up to the bound,
// and writers nothing.
func TestA1StalledRegistryNeverHoldsUpAWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			return ctx.Err()
		}, always)
		run(t, s)
		line := bytes.Repeat([]byte("x"), 1023)
		line = append(line, '\n')
		for range 5000 {
			before := time.Now()
			if _, err := s.Write(line); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(before); waited > 0 {
				t.Fatalf("a write waited %s", waited)
			}
			time.Sleep(10 * time.Millisecond)
		}
		s.mu.Lock()
		held := len(s.buf)
		s.mu.Unlock()
		if held > maxBuffer {
			t.Errorf("held %d bytes, want at most %d", held, maxBuffer)
		}
		if s.Dropped() == 0 {
			t.Error("nothing was dropped, so the bound was not met")
		}
	})
}

func TestDisabledKeepsNothing(t *testing.T) {
	s := New(nil, func() bool { return false })
	_, _ = s.Write([]byte("secret\n"))
	if batch := s.take(); batch != nil {
		t.Errorf("got %q", batch)
	}
}

func TestBatchesAreWholeLines(t *testing.T) {
	s := New(nil, always)
	for n := range 2000 {
		_, _ = fmt.Fprintf(s, "%0500d\n", n)
	}
	for batch := s.take(); batch != nil; batch = s.take() {
		if batch[len(batch)-1] != '\n' || len(batch) > maxBatch+200 {
			t.Fatalf("a batch of %d bytes ends with %q", len(batch), batch[len(batch)-1])
		}
	}
}
