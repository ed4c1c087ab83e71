package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/access"
)

// desk lets everybody in, until it does not.
type desk struct{ gone, denied atomic.Bool }

func (d *desk) Authenticate(*http.Request) (access.Principal, error) {
	if d.gone.Load() {
		return access.Principal{}, access.ErrUnauthenticated
	}
	return access.Principal{Kind: access.KindUser, Name: "ada"}, nil
}

func (d *desk) Authorize(_ context.Context, p access.Principal, need access.Permission) error {
	if d.denied.Load() && need == access.ListVMs {
		return &access.DeniedError{Principal: p, Permission: need}
	}
	return nil
}

// served runs a stream in virtual time, while do is called, and returns its events.
func served(t *testing.T, d *desk, do func(l *Log)) []api.WatchEvent {
	t.Helper()
	var answer bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := NewLog(10)
		l.Reset(5)
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Serve(w, r, Request{Kinds: []api.Kind{api.KindVM}}, Source{Log: l, Guard: access.Guard{Authenticator: d, Authorizer: d},
				Needs:    func(api.Kind) access.Permission { return access.ListVMs },
				Snapshot: func([]api.Kind) (int64, iter.Seq[Change]) { return 5, func(func(Change) bool) {} }})
		}()
		synctest.Wait()
		do(l)
		synctest.Wait()
		cancel()
		<-ended
		answer = *w.Body
	})
	var events []api.WatchEvent
	for line := range strings.Lines(answer.String()) {
		var e api.WatchEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

func TestASilentStreamBeats(t *testing.T) {
	t.Parallel()
	events := served(t, new(desk), func(l *Log) {
		l.Append(9) // of kinds that nobody is told of
		time.Sleep(2*beat + time.Second)
	})
	if len(events) != 3 || !events[0].Snapshot || events[2].Revision != 9 || events[2].Changes != nil {
		t.Errorf("%+v", events)
	}
}

func TestAStreamEndsWithTheRightToReadIt(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(d *desk){
		"credential": func(d *desk) { d.gone.Store(true) },
		"permission": func(d *desk) { d.denied.Store(true) },
	} {
		d := new(desk)
		events := served(t, d, func(*Log) {
			lose(d)
			time.Sleep(beat + time.Second)
		})
		if last := events[len(events)-1]; last.End != api.EndedDenied {
			t.Errorf("%s: %+v", name, events)
		}
	}
}

// stuck is a caller that takes nothing.
type stuck struct{ *httptest.ResponseRecorder }

var errStuck = errors.New("the write deadline")

func (stuck) Write([]byte) (int, error)          { return 0, errStuck }
func (stuck) SetWriteDeadline(_ time.Time) error { return nil }

func TestACallerThatTakesNothingIsCut(t *testing.T) {
	t.Parallel()
	l := NewLog(10)
	l.Reset(5)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	Serve(stuck{httptest.NewRecorder()}, r, Request{Kinds: []api.Kind{api.KindVM}}, Source{Log: l,
		Snapshot: func([]api.Kind) (int64, iter.Seq[Change]) { return 5, func(func(Change) bool) {} }})
}
