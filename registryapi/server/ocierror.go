package server

import (
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// ociErrors maps what the store refuses to the specification's codes. The first
// match wins.
var ociErrors = []struct {
	err    error
	status int
	code   oci.Code
}{
	{content.ErrNameInvalid, http.StatusBadRequest, oci.CodeNameInvalid},
	{content.ErrTagInvalid, http.StatusBadRequest, oci.CodeManifestInvalid},
	{content.ErrDigestInvalid, http.StatusBadRequest, oci.CodeDigestInvalid},
	{content.ErrDigestMismatch, http.StatusBadRequest, oci.CodeDigestInvalid},
	{content.ErrBlobMissing, http.StatusBadRequest, oci.CodeManifestBlobUnknown},
	{content.ErrManifestInvalid, http.StatusBadRequest, oci.CodeManifestInvalid},
	{content.ErrRepositoryUnknown, http.StatusNotFound, oci.CodeNameUnknown},
	{content.ErrBlobUnknown, http.StatusNotFound, oci.CodeBlobUnknown},
	{content.ErrManifestUnknown, http.StatusNotFound, oci.CodeManifestUnknown},
	{content.ErrTagUnknown, http.StatusNotFound, oci.CodeManifestUnknown},
	{content.ErrUploadUnknown, http.StatusNotFound, oci.CodeBlobUploadUnknown},
	// The specification has no word for "in use"; 405 is what it lets a
	// registry say that does not delete.
	{content.ErrInUse, http.StatusMethodNotAllowed, oci.CodeUnsupported},
	{content.ErrUnavailable, http.StatusServiceUnavailable, oci.CodeUnavailable},
	{content.ErrUploadBusy, http.StatusConflict, oci.CodeBlobUploadInvalid},
	{content.ErrNoSpace, http.StatusInsufficientStorage, oci.CodeDenied},
	{content.ErrReadOnly, http.StatusForbidden, oci.CodeDenied},
}

func asOCIError(err error) *oci.Error {
	if e, ok := errors.AsType[*oci.Error](err); ok {
		return e
	}
	for _, m := range ociErrors {
		if errors.Is(err, m.err) {
			return oci.NewError(m.status, m.code, err.Error())
		}
	}
	return oci.NewError(http.StatusInternalServerError, oci.CodeUnknown, "internal error")
}

func (s *Server) writeOCIError(w http.ResponseWriter, r *http.Request, err error) {
	e := asOCIError(err)
	public := storageTrouble(err)
	if e.Status >= 500 || public != nil {
		s.log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path),
			zap.String("request_id", wire.RequestID(r.Context())), zap.Error(err))
	}
	if public != nil {
		e = oci.NewError(e.Status, e.Code, public.Error())
	}
	e.Write(w)
}

// refuseOCI answers a caller that a Guard did not admit. The distribution
// specification wants a challenge with 401, and its clients do.
func (s *Server) refuseOCI(w http.ResponseWriter, r *http.Request, err error) {
	refusal := wire.Refusal(err)
	code := oci.CodeUnavailable
	switch refusal.Status {
	case http.StatusUnauthorized:
		code = oci.CodeUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="anka-registry"`)
	case http.StatusForbidden:
		code = oci.CodeDenied
	}
	s.writeOCIError(w, r, oci.NewError(refusal.Status, code, refusal.Message))
}

// storageTrouble returns what a client reads of trouble with our disk: without
// the names of our files. It is nil for any other error.
func storageTrouble(err error) error {
	for _, public := range []error{content.ErrNoSpace, content.ErrReadOnly} {
		if errors.Is(err, public) {
			return public
		}
	}
	return nil
}
