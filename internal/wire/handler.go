package wire

import (
	"context"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/access"
)

// HandlerFunc answers a request with a body for the envelope, or an error.
type HandlerFunc func(r *http.Request) (body any, err error)

// API adapts HandlerFuncs to http.Handlers. The zero value is not usable: Log
// must be set.
type API struct {
	Log *zap.Logger
	// EmptyBody is the body when a handler returns nil: nil leaves the field
	// out (controller), NullBody writes null (registry).
	EmptyBody any
	// Errors turns errors of the server's own into answers; nil means that it has none.
	Errors func(error) error
	// Guard stands before each route of Mux.
	Guard access.Guard
}

// Handle answers with what h returns.
func (a *API) Handle(h HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := h(r)
		a.Answer(w, r, body, err)
	})
}

// Answer answers with a body, in its envelope, or with an error.
func (a *API) Answer(w http.ResponseWriter, r *http.Request, body any, err error) {
	if part, ok := body.(Part); ok && err == nil {
		body = part.Body
		w.Header().Set(TotalHeader, strconv.Itoa(part.Total))
		if part.Next != "" {
			w.Header().Set(NextHeader, part.Next)
		}
	}
	encoded, ok := body.(Encoded)
	switch {
	case err != nil:
		a.WriteError(w, r, err)
	case ok:
		writeEncoded(w, http.StatusOK, encoded)
	case body == nil:
		WriteJSON(w, http.StatusOK, Envelope{Status: StatusOK, Body: a.EmptyBody})
	default:
		WriteJSON(w, http.StatusOK, Envelope{Status: StatusOK, Body: body})
	}
}

// WriteError answers with err's code and message and logs causes that are our
// fault.
func (a *API) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	if a.Errors != nil {
		err = a.Errors(err)
	}
	e := AsError(err)
	if r.Context().Err() != nil {
		return // the caller went away: nobody reads an answer, and it is no fault of ours
	}
	if e.Status >= 500 {
		a.Log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path),
			zap.String("request_id", RequestID(r.Context())), zap.Error(err))
	}
	WriteFailure(w, e, a.EmptyBody)
}

// NoSuchCall answers what is no call of mux, as the handler of its "/": another
// method of a path that is one is 405, and told which the path takes. notFound answers
// what is a call by no method.
func (a *API) NoSuchCall(mux *http.ServeMux, notFound http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "" && pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			notFound(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		a.WriteError(w, r, &Error{Status: http.StatusMethodNotAllowed,
			Message: r.URL.Path + " takes " + strings.Join(allowed, " and ") + ", not " + r.Method})
	}
}

// CleanPath serves `//api/v1/x/` as `/api/v1/x` without a redirect, which would
// turn a POST or DELETE into a GET at some clients.
func CleanPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; strings.Contains(p, "//") || (len(p) > 1 && strings.HasSuffix(p, "/")) {
			r2 := r.Clone(r.Context())
			r2.URL.Path = path.Clean("/" + p)
			r2.URL.RawPath = ""
			r = r2
		}
		next.ServeHTTP(w, r)
	})
}

// Recover turns a panic of a handler into a 500 and a log line; the process
// goes on. http.ErrAbortHandler passes through, as net/http expects.
func Recover(log *zap.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				log.Error("handler panicked", zap.Any("panic", p), zap.String("path", r.URL.Path), zap.ByteString("stack", debug.Stack()))
				WriteFailure(w, AsError(nil), nil)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

type requestIDKey struct{}

// RequestIDHeader carries an id that ties log lines of several servers together.
const RequestIDHeader = "X-Request-Id"

// CloseWhen ends each connection with its answer once leaving says that the
// server drains: a client that comes again takes a new one, and none is left on
// which a request could cross the server's close.
func CloseWhen(leaving func() bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if leaving() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// WithRequestID keeps the caller's X-Request-Id or makes one, and answers it.
func WithRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(RequestIDHeader)
		if id == "" || len(id) > maxRequestID {
			id = uuid.NewString()
		}
		w.Header().Set(RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// RequestID returns the id that WithRequestID put into ctx, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
