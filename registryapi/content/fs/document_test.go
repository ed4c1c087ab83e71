package fs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Documents are written beside their place first; nothing of that stays.
func TestDocumentsLeaveNoTemporaryFiles(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	docs := s.Documents("replication", "sources")
	if err := errors.Join(docs.Write("a.json", []byte("1")), docs.WriteSoon("b.json", []byte("2"))); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]int{docs.Place(): 2, filepath.Join(s.root, "tmp"): 0} {
		if files, err := os.ReadDir(dir); err != nil || len(files) != want {
			t.Errorf("%s has %d files, %v, want %d", dir, len(files), err, want)
		}
	}
}
