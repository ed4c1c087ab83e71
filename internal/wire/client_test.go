package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/access"
)

const taken Code = "name_is_taken"

func clientOf(t *testing.T, h http.Handler) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &Client{Base: srv.URL, HTTP: srv.Client(), Server: "registry", MaxAnswer: 1 << 20, Before: map[string]Code{"Taken": taken}}
}

// What a handler returns is what the caller of Call tests for.
func TestErrorsGoOverTheWireWithTheirCodes(t *testing.T) {
	t.Parallel()
	api := &API{Log: zap.NewNop()}
	for name, c := range map[string]struct {
		err    error
		status int
		code   Code
		text   string
	}{
		"a code of an API":    {taken.Failf("the name %s is taken", "a"), 200, taken, "registry: the name a is taken"},
		"a failure":           {Fail("no"), 200, CodeFailed, "registry: no"},
		"bad request":         {BadRequest("what?"), 400, CodeBadRequest, "registry answered 400: what?"},
		"away":                {Unavailable("etcd is away", io.EOF), 503, CodeUnavailable, "registry answered 503: etcd is away"},
		"a code and a status": {&Error{Status: 404, Code: CodeNotFound, Message: "Not found"}, 404, CodeNotFound, "registry answered 404: Not found"},
		"wrapped":             {fmt.Errorf("start: %w", taken.Fail("taken")), 200, taken, "registry: taken"},
		"a fault":             {io.EOF, 500, CodeInternal, "registry answered 500: internal error"},
		"another server's":    {&Error{From: "controller", Status: 200, Code: taken, Message: "theirs"}, 500, CodeInternal, "registry answered 500: internal error"},
	} {
		_, err := Call[string](t.Context(), clientOf(t, api.Handle(func(*http.Request) (any, error) { return nil, c.err })), Request{Method: http.MethodGet})
		e, ok := Answered(err, "registry")
		if !ok || e.Status != c.status || !errors.Is(err, c.code) || errors.Is(err, CodeForeign) || err.Error() != c.text {
			t.Errorf("%s: got %v (%+v), want %d %s %q", name, err, e, c.status, c.code, c.text)
		}
		if e.Failed() != (c.status == 200) {
			t.Errorf("%s: failed %t", name, e.Failed())
		}
	}
}

func TestServersWithoutCodesAreUnderstood(t *testing.T) {
	t.Parallel()
	for body, c := range map[string]struct {
		status int
		code   Code
	}{
		`{"status":"FAIL","message":"Taken"}`:                   {200, taken},
		`{"status":"FAIL","message":"Other"}`:                   {200, CodeFailed},
		`{"status":"FAIL","message":"Authentication Required"}`: {401, CodeUnauthenticated},
		`{"status":"FAIL","message":"no such call"}`:            {404, CodeNoSuchCall},
		`<html>nginx</html>`:                                    {404, CodeForeign},
		`{}`:                                                    {200, CodeForeign},
		`{"status":"OK","message":"","bo`:                       {200, CodeForeign},
		``:                                                      {200, CodeForeign},
	} {
		client := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, body)
		}))
		_, err := Call[string](t.Context(), client, Request{Method: http.MethodGet})
		if e, ok := Answered(err, "registry"); !ok || e.Status != c.status || !errors.Is(err, c.code) {
			t.Errorf("%d %s: %v, want %s", c.status, body, err, c.code)
		}
	}
}

func TestCallSendsAndReads(t *testing.T) {
	t.Parallel()
	client := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		WriteJSON(w, http.StatusOK, Envelope{Status: StatusOK, Body: strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("X-Other"), string(body)}, " ")})
	}))
	var header http.Header
	for want, call := range map[string]Request{
		"GET /a   ":                              {Method: "GET", Path: "/a", Answer: &header},
		`POST /b application/json o {"a":1}`:     {Method: "POST", Path: "/b", Body: map[string]int{"a": 1}, Header: http.Header{"X-Other": {"o"}}},
		"PUT /c application/octet-stream  lines": {Method: "PUT", Path: "/c", Stream: strings.NewReader("lines")},
	} {
		if got, err := Call[string](t.Context(), client, call); err != nil || got != want {
			t.Errorf("got %q and %v, want %q", got, err, want)
		}
	}
	if header.Get("Date") == "" {
		t.Error("the header of the answer is not given")
	}
	plain := *client
	plain.Plain = true
	if got, err := Call[Envelope](t.Context(), &plain, Request{Method: "GET", Path: "/a"}); err != nil || got.Body != "GET /a   " {
		t.Errorf("plain: %+v and %v", got, err)
	}
}

// An answer that stops is no answer of another program.
func TestAnswerThatDoesNotComeToItsEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"status":`)
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	}))
	if _, err := Call[string](ctx, client, Request{Method: http.MethodGet}); !errors.Is(err, context.Canceled) || errors.Is(err, CodeForeign) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestIdempotencyKeysBelongToTheirCallers(t *testing.T) {
	t.Parallel()
	keyOf := func(p access.Principal, body string) (string, string) {
		r := httptest.NewRequestWithContext(access.With(t.Context(), p), http.MethodPost, "/api/v1/vm?a=b", strings.NewReader(body))
		r.Header.Set(IdempotencyHeader, "k")
		key, request, r, err := Idempotency(r)
		if again, _ := io.ReadAll(r.Body); err != nil || string(again) != body {
			t.Errorf("body %q after it was read: %v", again, err)
		}
		return key, string(request)
	}
	ada, adaAsked := keyOf(access.Principal{Kind: access.KindUser, Name: "ada"}, "{}")
	bob, _ := keyOf(access.Principal{Kind: access.KindUser, Name: "bob"}, "{}")
	anonymous, asked := keyOf(access.Anonymous, "{}")
	if ada == bob || ada == anonymous || anonymous != "k" {
		t.Errorf("keys %q, %q and %q", ada, bob, anonymous)
	}
	if asked != adaAsked || asked != "POST /api/v1/vm?a=b\n{}" {
		t.Errorf("asked for %q and %q", asked, adaAsked)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	if key, request, _, err := Idempotency(r); key != "" || request != nil || err != nil {
		t.Errorf("without a key: %q %q %v", key, request, err)
	}
	r.Header.Set(IdempotencyHeader, strings.Repeat("k", MaxIdempotencyKey+1))
	if _, _, _, err := Idempotency(r); !errors.Is(err, CodeBadRequest) {
		t.Errorf("a long key: %v", err)
	}
}

// A server that sends a caller on gets neither its credentials nor its data sent
// there, and the caller is told.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("it was sent %s with %v", r.Method, r.Header)
	}))
	defer other.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		c := clientOf(t, http.RedirectHandler(other.URL+"/x", code))
		c.HTTP.CheckRedirect = NoRedirect
		_, err := Call[string](t.Context(), c, Request{Method: http.MethodPost, Body: "secret", Header: http.Header{"Authorization": {"Bearer x"}}})
		if !errors.Is(err, CodeForeign) || !strings.Contains(err.Error(), other.URL+"/x") {
			t.Errorf("%d: got %v", code, err)
		}
	}
}
