package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Status words of the envelope. There is no third word in either API.
const (
	StatusOK   = "OK"
	StatusFail = "FAIL"
)

// Envelope is the frame of every JSON answer. Message is always present and
// empty when Status is OK. A nil Body is left out; use NullBody where the
// contract asks for `"body":null`.
type Envelope struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Body    any    `json:"body,omitempty"`
}

// NullBody encodes as `"body":null`, which the registry's documented answers
// carry where there is nothing to return.
var NullBody = json.RawMessage("null")

// Encoded is an answer that is encoded already, with its envelope.
type Encoded []byte

// Headers of the answer that is a part of a list: how many there are, and after for
// the next part, which the last one lacks.
const (
	TotalHeader = "X-Total-Count"
	NextHeader  = "X-Next"
)

// Part is the body of an answer that is a part of a list.
type Part struct {
	Body  any
	Total int
	Next  string
}

// List makes the answer of a long list in one piece of memory, from elements that
// come one after another.
type List struct {
	buf bytes.Buffer
	enc *json.Encoder
}

// listHead and listTail stand around the elements.
const listHead, listTail = `{"status":"OK","message":"","body":[`, `]}`

// NewList returns an empty list with room for size bytes.
func NewList(size int) *List {
	l := new(List)
	l.buf.Grow(len(listHead) + size + len(listTail))
	l.buf.WriteString(listHead)
	l.enc = json.NewEncoder(&l.buf)
	return l
}

// Add adds an element, which must be one that encodes.
func (l *List) Add(item any) {
	l.separate()
	if err := l.enc.Encode(item); err != nil {
		panic(fmt.Sprintf("wire: an element of a list does not encode: %v", err))
	}
	l.buf.Truncate(l.buf.Len() - 1) // the encoder's newline
}

// AddEncoded adds an element that is encoded already.
func (l *List) AddEncoded(item []byte) {
	l.separate()
	l.buf.Write(item)
}

func (l *List) separate() {
	if l.buf.Len() > len(listHead) {
		l.buf.WriteByte(',')
	}
}

// Answer returns the answer. Nothing may be added after it.
func (l *List) Answer() Encoded {
	l.buf.WriteString(listTail)
	return l.buf.Bytes()
}

// WriteJSON writes v with the headers that the contract asks for.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"status":"FAIL","message":"internal error"}`)
	}
	writeEncoded(w, status, data)
}

func writeEncoded(w http.ResponseWriter, status int, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(data)+1)) // a list goes in one piece, not in chunks
	w.WriteHeader(status)
	_, _ = w.Write(data)    // the client went away; there is nobody to tell
	_, _ = w.Write(newline) // a person's prompt stands below the answer
}

var newline = []byte("\n")

// WriteFailure writes an answer that is not OK. body is the envelope's.
func WriteFailure(w http.ResponseWriter, e *Error, body any) {
	w.Header().Set(ErrorHeader, string(e.code()))
	if e.Status == http.StatusUnauthorized {
		body = nil // documented with its length
	}
	WriteJSON(w, e.Status, Envelope{Status: StatusFail, Message: e.Message, Body: body})
}
