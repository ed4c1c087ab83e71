package server

import (
	"encoding/json"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi/storage"
)

// ociError is an answer in the distribution specification's form.
type ociError struct {
	status  int
	code    string
	message string
}

func (e *ociError) Error() string { return e.code + ": " + e.message }

// ociErrors maps what the store refuses to the specification's codes. The first
// match wins.
var ociErrors = []struct {
	err    error
	status int
	code   string
}{
	{storage.ErrNameInvalid, http.StatusBadRequest, "NAME_INVALID"},
	{storage.ErrTagInvalid, http.StatusBadRequest, "MANIFEST_INVALID"},
	{storage.ErrDigestInvalid, http.StatusBadRequest, "DIGEST_INVALID"},
	{storage.ErrDigestMismatch, http.StatusBadRequest, "DIGEST_INVALID"},
	{storage.ErrBlobMissing, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN"},
	{storage.ErrManifestInvalid, http.StatusBadRequest, "MANIFEST_INVALID"},
	{storage.ErrRepositoryUnknown, http.StatusNotFound, "NAME_UNKNOWN"},
	{storage.ErrBlobUnknown, http.StatusNotFound, "BLOB_UNKNOWN"},
	{storage.ErrManifestUnknown, http.StatusNotFound, "MANIFEST_UNKNOWN"},
	{storage.ErrTagUnknown, http.StatusNotFound, "MANIFEST_UNKNOWN"},
	{storage.ErrUploadUnknown, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"},
	// The specification has no word for "in use"; 405 is what it lets a
	// registry say that does not delete.
	{storage.ErrInUse, http.StatusMethodNotAllowed, "UNSUPPORTED"},
	{storage.ErrUnavailable, http.StatusServiceUnavailable, "UNAVAILABLE"},
	{storage.ErrUploadBusy, http.StatusConflict, "BLOB_UPLOAD_INVALID"},
	{storage.ErrNoSpace, http.StatusInsufficientStorage, "DENIED"},
	{storage.ErrReadOnly, http.StatusForbidden, "DENIED"},
}

func asOCIError(err error) *ociError {
	var e *ociError
	if errors.As(err, &e) {
		return e
	}
	for _, m := range ociErrors {
		if errors.Is(err, m.err) {
			return &ociError{m.status, m.code, err.Error()}
		}
	}
	return &ociError{http.StatusInternalServerError, "UNKNOWN", "internal error"}
}

func (s *Server) writeOCIError(w http.ResponseWriter, r *http.Request, err error) {
	e := asOCIError(err)
	public := storageTrouble(err)
	if e.status >= 500 || public != nil {
		s.log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path),
			zap.String("request_id", wire.RequestID(r.Context())), zap.Error(err))
	}
	if public != nil {
		e = &ociError{e.status, e.code, public.Error()}
	}
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	data, _ := json.Marshal(map[string][]item{"errors": {{e.code, e.message}}}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(data)
}

// refuseOCI answers a caller that a Guard did not admit. The distribution
// specification wants a challenge with 401, and its clients do.
func (s *Server) refuseOCI(w http.ResponseWriter, r *http.Request, err error) {
	refusal := wire.Refusal(err)
	code := "UNAVAILABLE"
	switch refusal.Code {
	case http.StatusUnauthorized:
		code = "UNAUTHORIZED"
		w.Header().Set("WWW-Authenticate", `Basic realm="anka-registry"`)
	case http.StatusForbidden:
		code = "DENIED"
	}
	s.writeOCIError(w, r, &ociError{refusal.Code, code, refusal.Message})
}

// storageTrouble returns what a client reads of trouble with our disk: without
// the names of our files. It is nil for any other error.
func storageTrouble(err error) error {
	for _, public := range []error{storage.ErrNoSpace, storage.ErrReadOnly} {
		if errors.Is(err, public) {
			return public
		}
	}
	return nil
}
