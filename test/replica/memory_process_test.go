package replica

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// peak returns the most memory that the process has had, in bytes.
func (p *process) peak(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("the kernel tells no peak")
	return 0
}

// R11: memory stays bounded at ten parallel transfers in each direction and does
// not grow with the blobs. registrybench --long measures the same with 2 GiB.
func TestR11MemoryAtTenParallelTransfers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads the peak from /proc, which only Linux has")
	}
	p := start(t, build(t), filepath.Join(t.TempDir(), "store"))
	const size, limit = 40 << 20, 60 << 20
	path := filepath.Join(t.TempDir(), "blob")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8(sha256.Sum256([]byte("memory"))), size); err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{Digest: digest.NewDigest(digest.SHA256, sum), Size: size}
	c := client(t, p.url)
	if err := c.Upload(t.Context(), "vm", desc, f); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for i := range 10 {
		g.Go(func() error { return c.Blob(context.Background(), "vm", desc, 0, io.Discard) })
		g.Go(func() error { return c.Upload(context.Background(), fmt.Sprintf("vm%d", i), desc, f) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	got := p.peak(t)
	t.Logf("peak %d MB at 10 pulls and 10 pushes of %d MB at once", got>>20, size>>20)
	if got > limit {
		t.Errorf("peak %d MB, want at most %d", got>>20, limit>>20)
	}
}
