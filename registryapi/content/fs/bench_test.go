package fs

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
)

// BenchmarkSHA256 is what the hash alone allows: no upload can be faster.
func BenchmarkSHA256(b *testing.B) {
	buf := make([]byte, bufferSize)
	b.SetBytes(int64(len(buf)))
	h := sha256.New()
	for b.Loop() {
		h.Write(buf)
	}
}

// BenchmarkUpload is an upload of 64 MiB, with its fsync, without HTTP.
func BenchmarkUpload(b *testing.B) {
	s := openTest(b, b.TempDir())
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	d := digest.FromBytes(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		u, err := s.NewUpload("vm", digest.SHA256)
		if err == nil {
			_, err = u.Append(struct{ io.Reader }{bytes.NewReader(data)})
		}
		if err == nil {
			err = u.Commit(d)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	stored(b, s, d, data)
}

// stored compares what is stored with what was sent.
func stored(b *testing.B, s *Store, d digest.Digest, want []byte) {
	f, _, err := s.OpenBlob("vm", d)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, want) {
		b.Fatalf("%d bytes are stored (%v) that are not the %d sent", len(got), err, len(want))
	}
}
