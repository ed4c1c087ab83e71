package oci

import (
	"encoding/json"
	"net/http"
)

// Code is a code of the distribution specification, or one that registries use
// beside it.
type Code string

// Codes.
const (
	CodeBlobUnknown         Code = "BLOB_UNKNOWN"
	CodeBlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	CodeBlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	CodeDenied              Code = "DENIED"
	CodeDigestInvalid       Code = "DIGEST_INVALID"
	CodeManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     Code = "MANIFEST_INVALID"
	CodeManifestUnknown     Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid         Code = "NAME_INVALID"
	CodeNameUnknown         Code = "NAME_UNKNOWN"
	CodePaginationInvalid   Code = "PAGINATION_NUMBER_INVALID"
	CodeSizeInvalid         Code = "SIZE_INVALID"
	CodeTooManyRequests     Code = "TOOMANYREQUESTS"
	CodeUnauthorized        Code = "UNAUTHORIZED"
	CodeUnavailable         Code = "UNAVAILABLE"
	CodeUnknown             Code = "UNKNOWN"
	CodeUnsupported         Code = "UNSUPPORTED"
)

// Error is an answer that is not what was asked for.
type Error struct {
	Status  int // of HTTP
	Code    Code
	Message string
}

// NewError returns an error.
func NewError(status int, code Code, message string) *Error {
	return &Error{Status: status, Code: code, Message: message}
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// errorBody is the body of such an answer.
type errorBody struct {
	Errors []errorItem `json:"errors"`
}

type errorItem struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Write answers with e.
func (e *Error) Write(w http.ResponseWriter) {
	data, _ := json.Marshal(errorBody{[]errorItem{{e.Code, e.Message}}}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(data) // the client went away
}

// ReadError reads the body of an answer that is not what was asked for. Code and
// message are empty where it is not in the specification's form.
func ReadError(status int, body []byte) *Error {
	e := &Error{Status: status}
	var read errorBody
	if json.Unmarshal(body, &read) == nil && len(read.Errors) > 0 {
		e.Code, e.Message = read.Errors[0].Code, read.Errors[0].Message
	}
	return e
}
