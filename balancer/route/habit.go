package route

import "sync/atomic"

// habit is how answers of one kind end. It is safe for concurrent use; the zero value
// knows nothing.
type habit struct {
	ends  atomic.Int32 // answers that ended, since one was a stream; up to minSamples
	small atomic.Int32 // the same, since one without a length was larger than documentMax
}

// DocumentMax is how large an answer may be and still be taken for a document.
const DocumentMax = 1 << 20

// known reports whether enough answers have been seen.
func known(n *atomic.Int32) bool { return n.Load() >= minSamples }

// Documents reports whether answers of this kind are short documents, whether or not
// they announce it.
func (h *habit) Documents() bool { return known(&h.small) && known(&h.ends) }

// End reports whether answers of this kind are known to end.
func (h *habit) End() bool { return known(&h.ends) }

// Large notes that an answer larger than such answers are is what it is meant to be.
func (h *habit) Large() { h.small.Store(0) }

// Ended notes an answer that was whole.
func (h *habit) Ended(size int64, announced bool) {
	for _, n := range []*atomic.Int32{&h.ends, &h.small} {
		if !known(n) {
			n.Add(1)
		}
	}
	if size > DocumentMax && !announced {
		h.small.Store(0)
	}
}

// Streamed notes an answer that pauses, or goes on, as no document does.
func (h *habit) Streamed() {
	h.ends.Store(0)
	h.small.Store(0)
}
