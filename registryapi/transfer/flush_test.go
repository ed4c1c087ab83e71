package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The kernel tells a failed flush once and takes the data for clean afterwards:
// nothing of such a file is kept, or a hole would lie under a good digest.
func TestFailedFlushKeepsNothing(t *testing.T) {
	t.Parallel()
	data := noise(3, 1_000_000)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	for name, end := range map[string]func(p *partial, dir string) error{
		"in the middle": func(p *partial, _ string) error { return errors.Join(p.close(), p.close()) },
		"at the commit": func(p *partial, dir string) error { return p.commit(filepath.Join(dir, "file")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, err := openPartial(dir, desc)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Write(data); err != nil {
				t.Fatal(err)
			}
			fail := true
			p.sync = func() error {
				if fail {
					fail = false
					return syscall.EIO
				}
				return p.file.Sync()
			}
			if err := end(p, dir); !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v, want the disk's error", err)
			}
			again, err := openPartial(dir, desc)
			if err != nil {
				t.Fatal(err)
			}
			defer again.close()
			if again.have() != 0 {
				t.Errorf("%d bytes are taken for good", again.have())
			}
			if _, err := os.Stat(filepath.Join(dir, "file")); err == nil {
				t.Error("the file has its final name")
			}
		})
	}
}
