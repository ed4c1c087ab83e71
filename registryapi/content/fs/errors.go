package fs

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// ioError gives errors of the file system that a person can act on their own
// sentinel. It keeps the original for the log.
func ioError(err error) error {
	switch {
	case err == nil, errors.Is(err, content.ErrNoSpace), errors.Is(err, content.ErrReadOnly):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", content.ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: %w", content.ErrReadOnly, err)
	}
	return err
}
