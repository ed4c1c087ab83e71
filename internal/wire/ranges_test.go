package wire

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRangeCountsForGETAndBytesOnly(t *testing.T) {
	t.Parallel()
	h := Ranges(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	}))
	for _, tt := range []struct {
		method, header string
		status         int
		length         string
	}{
		{"GET", "bytes=2-4", 206, "3"},
		{"GET", "Bytes=2-4", 206, "3"},
		{"GET", "bytes=20-", 416, ""},
		{"GET", "lines=2-4", 200, "10"},
		{"GET", "nonsense", 200, "10"},
		{"HEAD", "bytes=2-4", 200, "10"},
		{"HEAD", "bytes=20-", 200, "10"},
	} {
		r := httptest.NewRequest(tt.method, "/", nil)
		r.Header.Set("Range", tt.header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || tt.length != "" && w.Header().Get("Content-Length") != tt.length {
			t.Errorf("%s %s: got %d with length %q, want %d with %q", tt.method, tt.header, w.Code, w.Header().Get("Content-Length"), tt.status, tt.length)
		}
	}
}
