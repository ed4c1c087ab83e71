package balancer

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// heldBody gives its content and keeps its end back, as the body of a server's
// request does when the sender is slow: a reader that goes on finds it closed if it
// was closed meanwhile.
type heldBody struct {
	io.Reader
	end    chan struct{}
	closed chan struct{}
}

func (h *heldBody) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err != io.EOF {
		return n, err
	}
	select {
	case <-h.closed:
		return 0, http.ErrBodyReadAfterClose
	case <-h.end:
		return 0, io.EOF
	}
}

func (h *heldBody) Close() error {
	close(h.closed) // twice is a panic: a body is closed once
	return nil
}

// A server answers when it has read all that was announced. The transport may not
// have seen the body's end by then: it must not be taken away, or the connection
// ends with the answer half read.
func TestAnswerIsWholeWhenItComesBeforeTheBodysEnd(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 2<<16) // above ReadAhead
	for name, header := range map[string]http.Header{"no key": {}, "key": {IdempotencyHeader: {"k"}}} {
		inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
			for _, host := range []string{"a", "b"} {
				w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
					io.CopyN(io.Discard, r.Body, r.ContentLength)
					http.NewResponseController(rw).EnableFullDuplex()
					io.WriteString(rw, large)
				})
			}
			body := &heldBody{strings.NewReader("body"), make(chan struct{}), make(chan struct{})}
			req, _ := http.NewRequest(http.MethodPost, "http://pool/x", body)
			req.Header, req.ContentLength = header, 4
			resp, err := w.b.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != large {
				t.Errorf("%s: got %d of %d bytes, %v", name, len(got), len(large), err)
			}
			close(body.end)
			resp.Body.Close()
			synctest.Wait()
			select {
			case <-body.closed:
			default:
				t.Errorf("%s: the body was never closed", name)
			}
		})
	}
}

// Requests that wait at an endpoint which comes back are moved to another one soon
// after. One that has its answer by then is left to read it.
func TestAnswerUnderWayIsNotMovedOn(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 2<<16) // above ReadAhead
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		answer := make(chan struct{})
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			<-answer
			io.WriteString(rw, large[:1<<20])
			rw.(http.Flusher).Flush()
			<-time.After(2 * comeBackGrace)
			io.WriteString(rw, large[1<<20:])
		})
		w.fakes["a"].setReady(status(http.StatusServiceUnavailable))
		w.reach("a", Down)
		done := make(chan string)
		go func() { done <- w.ask("GET", "/x", time.Minute) }()
		<-time.After(3 * time.Second) // it is late by then
		if hits, _ := w.fakes["a"].counts(); hits != 1 {
			t.Fatalf("the endpoint has %d requests, want the one that waits", hits)
		}
		w.fakes["a"].setReady(status(http.StatusOK))
		w.reach("a", Healthy)
		close(answer)
		if got := <-done; got != "200 "+large {
			t.Errorf("got %.60q with %d bytes, want all %d", got, len(got), len(large))
		}
	})
}

// reach waits until the endpoint is in a state.
func (w *world) reach(host string, s State) {
	w.t.Helper()
	if !w.until(time.Minute, func() bool { return w.state(host).State == s }) {
		w.t.Fatalf("%s is %s, want %s", host, w.state(host).State, s)
	}
}
