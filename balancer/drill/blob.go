package drill

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// blobFile is the one large object that every fake serves, the same bytes from
// the same file. As in the real registry its address, its ETag and its digest
// are one and the same.
type blobFile struct {
	path    string
	digest  string // "sha256:..."
	size    int64
	rate    int64  // bytes a second of one download; 0 is no limit
	counter string // see sentCounter
}

// writeBlob makes a file of random bytes and returns its digest.
func writeBlob(path string, size int64, seed uint64) (digest string, err error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8(key), size); err != nil {
		return "", fmt.Errorf("write the blob: %w", err)
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), f.Close()
}

func (b *backend) download(w http.ResponseWriter, r *http.Request) {
	if b.blob == nil || r.PathValue("digest") != b.blob.digest {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(b.blob.path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+b.blob.digest+`"`)
	w.Header().Set("Docker-Content-Digest", b.blob.digest)
	var content io.ReadSeeker = f // ServeContent hands a file to sendfile
	if b.blob.rate > 0 {
		count, err := openSentCounter(b.blob.counter, b.name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer count.Close()
		content = &pacedFile{file: f, ctx: r.Context(), rate: b.blob.rate, sent: count}
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}

// pacedFile is read at the pace of a network instead of the pace of memory, so
// that there is time to break something in the middle.
type pacedFile struct {
	file  *os.File // not embedded: its other methods would let sendfile pass Read by
	ctx   context.Context
	rate  int64
	sent  *sentCounter
	begun time.Time
	total int64
}

func (p *pacedFile) Read(b []byte) (int, error) {
	if p.begun.IsZero() {
		p.begun = time.Now()
	}
	due := p.begun.Add(time.Duration(float64(p.total) / float64(p.rate) * float64(time.Second)))
	wait(p.ctx, time.Until(due))
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.file.Read(b)
	p.total += int64(n)
	p.sent.add(int64(n))
	return n, err
}

func (p *pacedFile) Seek(offset int64, whence int) (int64, error) {
	return p.file.Seek(offset, whence)
}

// sentCounter counts bytes in a file, so that the count survives kill -9: what
// was written to a file belongs to the kernel.
type sentCounter struct {
	f *os.File
	n uint64
}

func openSentCounter(dir, backend string) (*sentCounter, error) {
	f, err := os.CreateTemp(dir, backend+"-")
	if err != nil {
		return nil, err
	}
	return &sentCounter{f: f}, nil
}

func (c *sentCounter) add(n int64) {
	c.n += uint64(n)
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], c.n)
	_, _ = c.f.WriteAt(buf[:], 0)
}

func (c *sentCounter) Close() error { return c.f.Close() }

// sentBytes adds up the counters of a backend, or of all when it is "": there is
// one per download that was begun.
func sentBytes(dir, backend string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if backend != "" && !strings.HasPrefix(e.Name(), backend+"-") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return 0, err
		}
		if len(b) == 8 {
			total += int64(binary.LittleEndian.Uint64(b))
		}
	}
	return total, nil
}
