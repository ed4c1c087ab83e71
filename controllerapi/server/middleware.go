package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// outermost stands around every call, public ones too.
func (s *Server) outermost(h http.Handler) http.Handler {
	return wire.WithRequestID(wire.Recover(s.log, s.cfg.Browsers.Guard(wire.Ranges(wire.CleanPath(h)))))
}

// agent serves a call of the agent wire, which is idempotent by ids of its own.
// Each of thousands of agents keeps a connection, and uses it every few seconds.
func (s *Server) agent(h wire.HandlerFunc) http.Handler {
	return wire.ParkAfter(s.metrics.observeParked(s.api.Handle(h)))
}

// write serves a call of the CI side that changes something. With an idempotency
// key it has its effect once, and every repeat is given the first answer.
func (s *Server) write(h wire.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := s.full(); why != "" && r.Method != http.MethodDelete {
			s.api.WriteError(w, r, wire.Unavailable(why, nil))
			return
		}
		key, request, r, err := wire.Idempotency(r)
		if err != nil {
			s.api.WriteError(w, r, err)
			return
		}
		if key != "" {
			ctx, _ := cloudstore.WithIdem(r.Context(), key, request, kept)
			r = r.WithContext(ctx)
		}
		body, err := h(r)
		err = s.settle(r, body, answer(err))
		var replay *cloudstore.Replay
		if errors.As(err, &replay) {
			s.replay(w, r, replay.Answer)
			return
		}
		s.api.Answer(w, r, body, err)
	})
}

// settle keeps the answer of a call that changed nothing, so that its repeat is
// told the same. A refusal is not kept: it had no effect that could happen twice, and
// clients could fill etcd with what they are refused. It may be the repeat of a call
// that was not refused.
func (s *Server) settle(r *http.Request, body any, err error) error {
	if err == nil {
		return answer(s.store.Settle(r.Context(), body))
	}
	if _, ok := isFailure(err); ok {
		if kept := s.store.Kept(r.Context()); kept != nil {
			return answer(kept)
		}
	}
	return err
}

// isFailure reports whether err is a logical failure, and no fault of anybody's.
func isFailure(err error) (*wire.Error, bool) {
	fail, ok := errors.AsType[*wire.Error](err)
	return fail, ok && fail.From == "" && fail.Failed()
}

// keptFailure is a failure as controllers of before kept it under an idempotency key:
// the envelope, and the code that goes in a header.
type keptFailure struct {
	wire.Envelope
	Code wire.Code `json:"code,omitempty"`
}

// kept encodes an answer to be kept under an idempotency key.
func kept(body any) json.RawMessage {
	return encode(wire.Envelope{Status: wire.StatusOK, Body: body})
}

// replay gives the answer that was kept.
func (s *Server) replay(w http.ResponseWriter, r *http.Request, answer json.RawMessage) {
	var fail keptFailure
	if bytes.HasPrefix(answer, failHead) && json.Unmarshal(answer, &fail) == nil {
		s.api.WriteError(w, r, fail.Code.Fail(fail.Message))
		return
	}
	s.api.Answer(w, r, wire.Encoded(answer), nil)
}

// failHead is how each answer that is kept and not OK begins.
var failHead = []byte(`{"status":"` + wire.StatusFail + `"`)

func encode(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("server: an answer does not encode: %v", err))
	}
	return data
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
	s.api.WriteError(w, r, &wire.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("no such call: %s %s", r.Method, r.URL.Path)})
}

func (s *Server) nodesOnly(w http.ResponseWriter, r *http.Request) {
	s.api.WriteError(w, r, &wire.Error{Status: http.StatusNotFound, Message: "this address serves nodes only"})
}

// answers is the table of what the store's errors are to a caller. The first match
// wins. An entry without a message is one whose text the caller reads as it is.
var answers = []struct {
	err     error
	code    wire.Code
	message string
}{
	{cloud.ErrNotFound, api.ErrNotFound, api.MsgNotFound},
	{errNoTemplate, api.ErrNotFound, api.MsgNotFound},
	{cloud.ErrUnknownNode, api.ErrUnknownNode, api.MsgUnknownNode},
	{cloud.ErrSessionEnded, api.ErrSessionEnded, api.MsgSessionEnded},
	{cloud.ErrOtherHost, api.ErrOtherHost, api.MsgOtherHost},
	{cloud.ErrNoSuchGroup, api.ErrNoSuchGroup, ""},
	{cloud.ErrNoSuchNode, api.ErrNoSuchNode, ""},
	{cloud.ErrGroupExists, api.ErrGroupExists, ""},
	{cloud.ErrFallbackCycle, api.ErrFallbackCycle, ""},
	{cloud.ErrBadState, api.ErrBadState, ""},
	{cloud.ErrNoMAC, api.ErrNoMAC, ""},
	{rpctypes.ErrRequestTooLarge, wire.CodeTooLarge, "the request makes records that are too large to be stored"},
}

// answer turns the store's errors into answers.
func answer(err error) error {
	if err == nil {
		return nil
	}
	for _, a := range answers {
		if !errors.Is(err, a.err) {
			continue
		}
		if refused, ok := errors.AsType[*cloud.Refused](err); ok {
			return a.code.Fail(refused.Error())
		}
		return a.code.Fail(cmp.Or(a.message, a.err.Error()))
	}
	switch {
	case errors.Is(err, cloudstore.ErrKeyReused):
		return &wire.Error{Status: http.StatusUnprocessableEntity, Code: wire.CodeKeyReused, Message: "the idempotency key was used for another request"}
	case errors.Is(err, cloudstore.ErrNoSpace):
		return wire.Unavailable("etcd: database space exceeded", err)
	case errors.Is(err, cloudstore.ErrOtherHistory):
		return wire.Unavailable(cloudstore.ErrOtherHistory.Error(), err)
	case errors.Is(err, cloudstore.ErrUnavailable):
		return wire.Unavailable("etcd does not answer", err)
	}
	return err
}
