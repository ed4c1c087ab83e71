package wire

import (
	"net/http"
	"strings"
)

// Ranges leaves of the Range header what RFC 9110 wants it to mean: it counts for
// GET only, its unit is case-insensitive, and a unit other than bytes is ignored.
// http.ServeContent answers HEAD with 206 and an unknown unit with 416.
func Ranges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.Header.Get("Range"); text != "" {
			unit, set, ok := strings.Cut(text, "=")
			switch {
			case r.Method != http.MethodGet, !ok, !strings.EqualFold(strings.TrimSpace(unit), "bytes"):
				r.Header.Del("Range")
			case unit != "bytes":
				r.Header.Set("Range", "bytes="+set)
			}
		}
		next.ServeHTTP(w, r)
	})
}
