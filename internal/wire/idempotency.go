package wire

import (
	"bytes"
	"io"
	"net/http"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/serve"
)

// IdempotencyHeader carries a caller's name for a write: repeated under it, the
// write happens once and is answered alike.
const IdempotencyHeader = "Idempotency-Key"

// Idempotency returns the key of a request, and what identifies the request under
// it; key is "" for a request without one. Keys belong to their caller: two callers
// that use the same one do not meet. It reads the body, which the request that it
// returns has again.
func Idempotency(r *http.Request) (key string, request []byte, again *http.Request, err error) {
	key = r.Header.Get(IdempotencyHeader)
	if key == "" {
		return "", nil, r, nil
	}
	body, err := ReadBody(r, MaxBody)
	if err != nil {
		return "", nil, r, err
	}
	if len(key) > MaxIdempotencyKey {
		return "", nil, r, BadRequest("header %s is longer than %d bytes", IdempotencyHeader, MaxIdempotencyKey)
	}
	again = serve.WithBody(r, io.NopCloser(bytes.NewReader(body)))
	// Keys of anonymous callers are as servers from before callers had names keep them.
	if caller := access.From(r.Context()); !caller.IsAnonymous() {
		key = caller.String() + "\x00" + key
	}
	return key, append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...), again, nil
}
