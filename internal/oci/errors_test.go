package oci

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestErrorsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	want := Error{http.StatusNotFound, CodeBlobUnknown, `no "blob" <here>`}
	w := httptest.NewRecorder()
	want.Write(w)
	if got := ReadError(w.Code, w.Body.Bytes()); *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, body := range []string{"", "not found", `{"errors":[]}`, `{"errors":"x"}`} {
		if got := ReadError(http.StatusNotFound, []byte(body)); *got != (Error{Status: http.StatusNotFound}) {
			t.Errorf("%q: got %+v", body, got)
		}
	}
}
