package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/internal/wire"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// outermost stands around every call, public ones too.
func (s *Server) outermost(h http.Handler) http.Handler {
	return wire.WithRequestID(wire.Recover(s.log, wire.Ranges(wire.CleanPath(s.cors(h)))))
}

func (s *Server) cors(h http.Handler) http.Handler {
	if !s.cfg.AllowCORS {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		head.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
		head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+api.IdempotencyHeader)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// encodedBody is an answer that is encoded already, with its envelope.
type encodedBody []byte

// read serves a call that changes nothing.
func (s *Server) read(h wire.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := h(r)
		switch data, encoded := body.(encodedBody); {
		case err != nil:
			s.api.WriteError(w, r, answer(err))
		case encoded:
			writeRaw(w, data)
		default:
			writeRaw(w, envelope(body))
		}
	})
}

// agent serves a call of the agent wire, which is idempotent by ids of its own.
// Each of thousands of agents keeps a connection, and uses it every few seconds.
func (s *Server) agent(h wire.HandlerFunc) http.Handler {
	return wire.ParkAfter(s.metrics.observeParked(s.read(h)))
}

// write serves a call of the CI side that changes something. With an idempotency
// key it has its effect once, and every repeat is given the first answer.
func (s *Server) write(h wire.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key := r.Header.Get(api.IdempotencyHeader); key != "" {
			body, err := wire.ReadBody(r, wire.MaxBody)
			if err != nil {
				s.api.WriteError(w, r, err)
				return
			}
			if len(key) > 255 {
				s.api.WriteError(w, r, wire.BadRequest("header %s is longer than 255 bytes", api.IdempotencyHeader))
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			request := append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...)
			ctx, _ := cloudstore.WithIdem(r.Context(), key, request, envelope)
			r = r.WithContext(ctx)
		}
		body, err := h(r)
		err = s.settle(r, body, answer(err))
		var replay *cloudstore.Replay
		switch {
		case errors.As(err, &replay):
			writeRaw(w, replay.Answer)
		case err != nil:
			s.api.WriteError(w, r, err)
		default:
			writeRaw(w, envelope(body))
		}
	})
}

// settle keeps the answer of a call that changed nothing, so that its repeat is
// told the same. Faults of ours and requests that could not be read are not kept.
func (s *Server) settle(r *http.Request, body any, err error) error {
	if err == nil {
		return answer(s.store.Settle(r.Context(), body))
	}
	var fail *wire.Error
	if errors.As(err, &fail) && fail.Code == http.StatusOK {
		if kept := s.store.Settle(r.Context(), failure(fail.Message)); kept != nil {
			return answer(kept)
		}
	}
	return err
}

// failure is an answer that is not OK, to be kept under an idempotency key.
type failure string

// envelope encodes an answer.
func envelope(body any) json.RawMessage {
	env := wire.Envelope{Status: wire.StatusOK, Body: body}
	if f, ok := body.(failure); ok {
		env = wire.Envelope{Status: wire.StatusFail, Message: string(f)}
	}
	data, err := json.Marshal(env)
	if err != nil {
		panic(fmt.Sprintf("server: an answer does not encode: %v", err))
	}
	return data
}

var newline = []byte("\n")

func writeRaw(w http.ResponseWriter, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(data)+1)) // a list goes in one piece, not in chunks
	_, _ = w.Write(data)                               // the client went away; there is nobody to tell
	_, _ = w.Write(newline)                            // a person's prompt stands below the answer
}

// named is the id of what a call is about: documented for some calls in the query
// and for others in the body, and taken from both by all of them.
func named[T ~string](r *http.Request, field string, body ...T) (T, error) {
	var id T
	for _, given := range append(body, T(r.URL.Query().Get("id")), T(r.URL.Query().Get(field))) {
		if given == "" || given == id {
			continue
		}
		if id != "" {
			return "", wire.BadRequest("%s is given twice, as %q and %q", field, id, given)
		}
		id = given
	}
	if id == "" {
		return "", required(field)
	}
	return id, nil
}

// idToDelete reads the id of a call whose body has nothing else.
func idToDelete[T ~string](r *http.Request) (T, error) {
	req, err := wire.Decode[struct {
		ID T `json:"id"`
	}](r)
	if err != nil {
		return "", err
	}
	return named(r, "id", req.ID)
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	s.api.WriteError(w, r, &wire.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("no such call: %s %s", r.Method, r.URL.Path)})
}

func (s *Server) nodesOnly(w http.ResponseWriter, r *http.Request) {
	s.api.WriteError(w, r, &wire.Error{Code: http.StatusNotFound, Message: "this address serves nodes only"})
}

// lastWords is an error's text without the operations that it was wrapped with.
func lastWords(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || !strings.HasSuffix(err.Error(), inner.Error()) {
			return err.Error()
		}
		err = inner
	}
}

// answer turns the store's errors into answers: the one table of them.
func answer(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cloudstore.ErrNotFound), errors.Is(err, errNoTemplate):
		return wire.Fail(api.MsgNotFound)
	case errors.Is(err, cloudstore.ErrUnknownNode):
		return wire.Fail(api.MsgUnknownNode)
	case errors.Is(err, cloudstore.ErrSessionEnded):
		return wire.Fail(api.MsgSessionEnded)
	case errors.Is(err, cloudstore.ErrOtherHost):
		return wire.Fail(api.MsgOtherHost)
	case errors.Is(err, cloudstore.ErrNoSuchGroup), errors.Is(err, cloudstore.ErrNoSuchNode), errors.Is(err, cloudstore.ErrGroupExists),
		errors.Is(err, cloudstore.ErrFallbackCycle), errors.Is(err, cloudstore.ErrBadState), errors.Is(err, cloudstore.ErrNoMAC):
		return wire.Fail(lastWords(err))
	case errors.Is(err, cloudstore.ErrKeyReused):
		return &wire.Error{Code: http.StatusUnprocessableEntity, Message: "the idempotency key was used for another request"}
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return wire.Fail("the request makes records that are too large to be stored")
	case errors.Is(err, cloudstore.ErrNoSpace):
		return wire.Unavailable("etcd: database space exceeded", err)
	case errors.Is(err, cloudstore.ErrOtherHistory):
		return wire.Unavailable(cloudstore.ErrOtherHistory.Error(), err)
	case errors.Is(err, cloudstore.ErrUnavailable):
		return wire.Unavailable("etcd does not answer", err)
	}
	return err
}
