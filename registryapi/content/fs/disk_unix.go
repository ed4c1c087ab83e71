//go:build unix

package fs

import "golang.org/x/sys/unix"

func diskSpace(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	// The field types differ between systems.
	size := uint64(st.Bsize) //nolint:unconvert
	return uint64(st.Bavail) * size, uint64(st.Blocks) * size, nil
}
