package oci

import (
	"testing"

	"pgregory.net/rapid"
)

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-9", "bytes 0-9/10", "bytes 0-9/*", "9-0", "-1", "+1-2", "1-", "99999999999999999999-1", "0--1", "0-9223372036854775807", "9223372036854775807-0", " 0-1 ", "0-1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if first, last, ok := ParseContentRange(text); ok && (first < 0 || last < first-1) {
			t.Errorf("%q: got %d to %d", text, first, last)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=3-5", "bytes=-5", "bytes=0-9223372036854775807", "bytes=5-4", "bytes=-0", "bytes=0-0,1-1", "0-1"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size = max(size, 0); EmptyRange(header, size) {
			if _, _, ok := ParseRange(header, size); ok {
				t.Errorf("%q of %d bytes is empty, and is not", header, size)
			}
		}
		if from, to, ok := ParseRange(header, size); ok && (from < 0 || from >= to || to > size) {
			t.Errorf("%q of %d bytes: got %d to %d", header, size, from, to)
		}
	})
}

func TestRangesAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(0, 1<<50).Draw(t, "from")
		to := from + rapid.Int64Range(1, 1<<50).Draw(t, "length")
		if first, last, ok := ParseContentRange(ContentRange(from, to, to+1)); !ok || first != from || last != to-1 {
			t.Fatalf("content range: got %d to %d, %v", first, last, ok)
		}
		want := to
		if to == 1 {
			want = 0 // one byte looks like none
		}
		if got, err := ParseUploadRange(UploadRange(to)); err != nil || got != want {
			t.Fatalf("upload range of %d: got %d, %v", to, got, err)
		}
	})
}
