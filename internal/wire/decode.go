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
// the field where there is one.
func Decode[T any](r *http.Request) (T, error) { return DecodeMax[T](r, MaxBody) }

// DecodeMax is Decode with another limit, in bytes.
func DecodeMax[T any](r *http.Request, limit int64) (T, error) {
	var v T
	data, err := ReadBody(r, limit)
	if err != nil {
		return v, err
	}
	if len(data) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(data, &v); err != nil {
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
	return v, nil
}

// ReadBody reads the body of r. Errors are *Error with status 413 for one that is
// longer than limit, in bytes, and 400 for one that ends before it should.
func ReadBody(r *http.Request, limit int64) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("request body is larger than %d MB", limit>>20)}
	case err != nil:
		return nil, &Error{Status: http.StatusBadRequest, Message: "request body could not be read", Cause: err}
	}
	return data, nil
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
