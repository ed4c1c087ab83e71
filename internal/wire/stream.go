package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"
)

const (
	typeEvents = "text/event-stream"
	typeLines  = "application/x-ndjson"

	// MaxEvent bounds an event of a stream, in bytes.
	MaxEvent = 4 << 20
)

// Stream answers one request with JSON documents, one after another: a line each, or
// server-sent events where the caller accepts these. It is not safe for concurrent
// use.
type Stream struct {
	w      http.ResponseWriter
	conn   *http.ResponseController
	slow   time.Duration
	events bool
	buf    bytes.Buffer
}

// NewStream begins the answer. A caller that takes nothing for as long as slow ends
// it: Flush returns an error.
func NewStream(w http.ResponseWriter, r *http.Request, slow time.Duration) *Stream {
	s := &Stream{w: w, conn: http.NewResponseController(w), slow: slow, events: strings.Contains(r.Header.Get("Accept"), typeEvents)}
	h := w.Header()
	h.Set("Content-Type", typeLines)
	if s.events {
		h.Set("Content-Type", typeEvents)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx hands each event on when it comes
	w.WriteHeader(http.StatusOK)
	return s
}

// Add puts an event into what Flush sends. data is a JSON document without line
// breaks. A caller that comes again tells the newest id that it was given; "" is none.
func (s *Stream) Add(id string, data []byte) {
	if !s.events {
		s.buf.Write(data)
		s.buf.WriteByte('\n')
		return
	}
	if id != "" {
		fmt.Fprintf(&s.buf, "id: %s\n", id)
	}
	fmt.Fprintf(&s.buf, "data: %s\n\n", data)
}

// Flush sends what was added.
func (s *Stream) Flush() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.slow)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.buf.WriteTo(s.w); err != nil {
		return err
	}
	return s.conn.Flush()
}

// Follow makes a call that a Stream answers, and yields its events until the stream
// or the loop ends, or with the error that ended it. The errors are those of Call.
func Follow[T any](ctx context.Context, c *Client, call Request) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		resp, err := c.send(ctx, call)
		if err != nil {
			yield(none, err)
			return
		}
		if resp.StatusCode != http.StatusOK {
			var env Envelope
			if data, err := ReadAnswer(resp, MaxEvent); err == nil {
				_ = json.Unmarshal(data, &env) // what it is not, is told by the status
			}
			yield(none, c.failure(resp, env.Message))
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, MaxEvent)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				continue
			}
			var event T
			err := Measure(lines.Bytes(), max(MaxValues, len(lines.Bytes())/answerValueSize))
			if err == nil {
				err = json.Unmarshal(lines.Bytes(), &event)
			}
			if err != nil {
				yield(none, &Error{From: c.Server, Status: resp.StatusCode, Code: CodeForeign, Message: fmt.Sprintf("the answer is not from a %s: %v", c.Server, err), Cause: err})
				return
			}
			if !yield(event, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(none, err)
		}
	}
}
