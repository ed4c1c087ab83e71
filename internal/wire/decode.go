package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
)

// Decode reads the JSON body of r into a T, whatever the Content-Type says: the
// existing clients send none, or form. Unknown fields are ignored, but for callers
// that are Strict. An empty body decodes to the zero T. Errors are *Error with status 400 or 413 that name
// the field where there is one, and a failure where a field is longer than T says.
func Decode[T any](r *http.Request) (T, error) { return DecodeMax[T](r, Body) }

// DecodeMax is Decode with other limits.
func DecodeMax[T any](r *http.Request, limits Limits) (T, error) {
	var v T
	data, release, err := readBody(r, limits.Bytes)
	if err != nil {
		return v, err
	}
	defer release()
	if len(data) == 0 {
		return v, nil
	}
	if len(data) > smallBody {
		decoding <- struct{}{} // of those who hold a place none waits for anything
		defer func() { <-decoding }()
	}
	if err := Measure(data, limits.Values); err != nil {
		return v, &Error{Status: http.StatusRequestEntityTooLarge, Message: "request body: " + err.Error()}
	}
	if err := json.Unmarshal(data, &v); err != nil {
		if own, ok := errors.AsType[*Error](err); ok {
			return v, own
		}
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) {
			if wrongType.Field == "" {
				return v, BadRequest("expected %s, got %s", jsonKind(wrongType.Type), wrongType.Value)
			}
			return v, BadRequest("field %q: expected %s, got %s", wrongType.Field, jsonKind(wrongType.Type), wrongType.Value)
		}
		return v, BadRequest("malformed JSON: %v", err)
	}
	if Strict(r) {
		if name, unknown := unknownField(data, reflect.TypeFor[T]()); unknown {
			return v, fieldError(name, reflect.TypeFor[T]())
		}
	}
	return v, checkFields(reflect.ValueOf(&v).Elem())
}

// ReadBody reads the body of r. Errors are *Error with status 413 for one that is
// longer than limit, in bytes, 400 for one that ends before it should, and 503 where
// too many large ones are being read.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	data, release, err := readBody(r, limit)
	release()
	return data, err
}

// readBody is ReadBody for a caller that says when it is done with the body.
func readBody(r *http.Request, limit int64) (data []byte, release func(), err error) {
	var held int64
	release = func() { buffered.Add(-held) }
	tooLarge := &Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("request body is larger than %d MB", limit>>20)}
	if r.ContentLength > limit {
		return nil, release, tooLarge
	}
	// What is said to come counts as little until it comes.
	data = make([]byte, 0, min(max(r.ContentLength+1, 512), firstRead))
	for {
		n, err := r.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, release, tooLarge
		case err == io.EOF:
			return data, release, nil
		case err != nil:
			return nil, release, &Error{Status: http.StatusBadRequest, Message: "request body could not be read", Cause: err}
		}
		if len(data) < cap(data) {
			continue
		}
		more := int64(cap(data)) // twice as much
		if r.ContentLength > 0 {
			more = min(more, max(r.ContentLength+1-int64(cap(data)), 512))
		}
		if held+more > smallBody {
			held += more
			if buffered.Add(more) > maxBuffered {
				return nil, release, Unavailable("too many large request bodies are being read", nil)
			}
		}
		data = append(make([]byte, 0, int64(cap(data))+more), data...)
	}
}

// jsonKind is what a Go type looks like in JSON, in the words of an error.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Pointer:
		return jsonKind(t.Elem())
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	return "integer"
}
