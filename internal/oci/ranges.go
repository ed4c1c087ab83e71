package oci

import (
	"fmt"
	"strconv"
	"strings"
)

// ContentRange is the header of a part of content: bytes [from, to) of size.
func ContentRange(from, to, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", from, to-1, size)
}

// NoRange is the Content-Range of an answer to a range that content of a size does
// not have.
func NoRange(size int64) string { return fmt.Sprintf("bytes */%d", size) }

// ParseContentRange reads "first-last", both inclusive, as the specification
// writes it for a chunk of an upload, and the HTTP form "bytes first-last/total",
// which answers have and some clients send. last is first-1 for no bytes.
func ParseContentRange(text string) (first, last int64, ok bool) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "bytes ")
	text, _, _ = strings.Cut(text, "/")
	a, b, found := strings.Cut(text, "-")
	if !found {
		return 0, 0, false
	}
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	return first, last, err1 == nil && err2 == nil && first >= 0 && last >= first-1 && a[0] != '+' && b[0] != '+'
}

// ParseRange reads a Range header of one range, "bytes=a-b", "bytes=a-" or
// "bytes=-n", of content of a size, as [from, to).
func ParseRange(header string, size int64) (from, to int64, ok bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	a, b, dash := strings.Cut(spec, "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return 0, 0, false
	}
	if a == "" {
		n, err := strconv.ParseInt(b, 10, 64)
		if err != nil || n <= 0 {
			return 0, 0, false
		}
		return max(size-n, 0), size, size > 0
	}
	from, err := strconv.ParseInt(a, 10, 64)
	if err != nil || from < 0 || from >= size {
		return 0, 0, false
	}
	to = size
	if b != "" {
		last, err := strconv.ParseInt(b, 10, 64)
		if err != nil || last < from {
			return 0, 0, false
		}
		to = min(last, size-1) + 1
	}
	return from, to, true
}

// EmptyRange reports whether a Range header asks for the last bytes of content and
// there are none, or asks for none. http.ServeContent answers that with 206 and a
// Content-Range that ends before it begins.
func EmptyRange(header string, size int64) bool {
	specs, ok := strings.CutPrefix(header, "bytes=")
	empty := false
	for spec := range strings.SplitSeq(specs, ",") {
		if spec = strings.TrimSpace(spec); spec == "" {
			continue
		}
		first, last, _ := strings.Cut(spec, "-")
		first, last = strings.TrimSpace(first), strings.TrimSpace(last)
		none := first == "" && last != "" && (size == 0 || strings.Trim(last, "0") == "")
		if !none || empty { // of several ranges each is answered as a part
			return false
		}
		empty = true
	}
	return ok && empty
}

// UploadRange is the Range header of an answer about an upload of which offset
// bytes have arrived.
func UploadRange(offset int64) string { return fmt.Sprintf("0-%d", max(offset-1, 0)) }

// ParseUploadRange returns how many bytes of an upload have arrived by the Range
// header of an answer. An empty upload is "0-0" at some servers and "0--1" or
// nothing at others, so one byte and none look the same; none is the safe reading.
func ParseUploadRange(header string) (offset int64, err error) {
	r := strings.TrimPrefix(header, "bytes=")
	if r == "" {
		return 0, nil
	}
	_, last, _ := strings.Cut(r, "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if err != nil || n < -1 {
		return 0, fmt.Errorf("range of the upload: %q", r)
	}
	if n <= 0 {
		return 0, nil
	}
	return n + 1, nil
}
