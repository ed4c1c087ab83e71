package wire

import "sync/atomic"

// Limits are those of a JSON document, before it becomes values of Go. A document of
// few bytes can be many values, each of which takes hundreds of bytes.
type Limits struct {
	Bytes  int64
	Values int // elements of lists and fields of objects, those of all levels together
}

// The limits of what callers send, and of what is read of an answer. A call that
// takes more than Body says so where it decodes (DecodeMax).
const (
	// MaxBody is the largest JSON request body, in bytes. etcd refuses requests
	// over 1.5 MB, and no documented call comes near 1 MB.
	MaxBody = 1 << 20
	// MaxValues is what a JSON request body may consist of: the longest list in one is
	// of all nodes of a cloud.
	MaxValues = 20_000
	// MaxDepth is how deep lists and objects are in one another. No document of ours
	// has more than six.
	MaxDepth = 32
	// MaxIdempotencyKey is the longest idempotency key, in bytes.
	MaxIdempotencyKey = 255
	// maxRequestID is the longest X-Request-Id that is kept, in bytes.
	maxRequestID = 128
	// MaxAnswer is what a Client reads of an answer, in bytes, unless it says so: a
	// list of all templates is far smaller.
	MaxAnswer = 64 << 20
	// answerValueSize is how many bytes a value of an answer has at least, on the
	// average: shorter ones are not from a server of ours.
	answerValueSize = 16
	// maxEcho is how much an error tells of each thing that was sent, and maxMessage how
	// much in all, in bytes.
	maxEcho, maxMessage = 100, 1000
)

// Body are the limits of a request's body.
var Body = Limits{Bytes: MaxBody, Values: MaxValues}

// A body up to smallBody is read at once. Larger ones share maxBuffered, and a few of
// them are decoded at a time: what they need beyond their own bytes is needed that
// often.
const (
	smallBody   = 64 << 10
	firstRead   = 4 << 10
	maxBuffered = 128 << 20
)

var (
	buffered atomic.Int64
	decoding = make(chan struct{}, 4)
)
