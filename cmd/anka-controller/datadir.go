package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ankacluster/ankacluster/internal/filelock"
)

// lockDataDir makes the data directory and holds it for this process alone.
func (c *config) lockDataDir() (unlock func(), err error) {
	advice := "choose another with --data-dir DIR"
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir %s cannot be made (%w); %s", c.DataDir, err, advice)
	}
	path := filepath.Join(c.DataDir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data-dir %s cannot be written (%w); %s", c.DataDir, err, advice)
	}
	if err := filelock.TryLock(f); err != nil {
		f.Close()
		if errors.Is(err, filelock.ErrLocked) {
			return nil, fmt.Errorf("--data-dir %s is in use by another anka-controller; stop that one or %s", c.DataDir, advice)
		}
		return nil, fmt.Errorf("--data-dir %s cannot be locked (%w); %s", c.DataDir, err, advice)
	}
	return func() { f.Close() }, nil
}
