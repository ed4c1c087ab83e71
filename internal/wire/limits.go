package wire

// The limits of what callers send, and of what is read of an answer. A call that takes more than MaxBody says so where
// it decodes (DecodeMax).
const (
	// MaxBody is the largest JSON request body, in bytes. etcd refuses requests
	// over 1.5 MB, and no documented call comes near 1 MB.
	MaxBody = 1 << 20
	// MaxIdempotencyKey is the longest idempotency key, in bytes.
	MaxIdempotencyKey = 255
	// maxRequestID is the longest X-Request-Id that is kept, in bytes.
	maxRequestID = 128
	// MaxAnswer is what a Client reads of an answer, in bytes, unless it says so: a
	// list of all templates is far smaller.
	MaxAnswer = 64 << 20
)
