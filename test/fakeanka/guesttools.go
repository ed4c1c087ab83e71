package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A guest has some commands of macOS, as far as scripts of the agent need them.

// guestHomeVar is where a guest's tools keep their state.
const guestHomeVar = "FAKEANKA_GUEST"

var guestTools = map[string]func([]string) int{"diskutil": diskutil, "sudo": sudo}

func (s *store) guestBin() string { return filepath.Join(s.dir, "guestbin") }

// guestTools puts the tools where a guest's PATH has them.
func (s *store) guestTools(self string) error {
	if err := os.MkdirAll(s.guestBin(), 0o755); err != nil {
		return err
	}
	for name := range guestTools {
		if err := os.Symlink(self, filepath.Join(s.guestBin(), name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// sudo runs a command; every guest's user may, without a password.
func sudo(args []string) int {
	if len(args) < 2 || args[0] != "-n" {
		fmt.Fprintln(os.Stderr, "sudo: a password is required")
		return 1
	}
	path, err := exec.LookPath(args[1])
	if err == nil {
		err = syscall.Exec(path, args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// diskutil knows one disk, whose names are those of FAKEANKA_GUEST_DISK: the
// container and the physical store. macOS 26 has others than its predecessors.
func diskutil(args []string) int {
	container, store := "disk3", "disk0s2"
	if names := strings.Fields(os.Getenv("FAKEANKA_GUEST_DISK")); len(names) == 2 {
		container, store = names[0], names[1]
	}
	size := filepath.Join(os.Getenv(guestHomeVar), "container-grown")
	switch {
	case slices.Equal(args, []string{"info", "/"}):
		fmt.Printf("   Volume Name:               Macintosh HD\n   APFS Container:            %s\n   APFS Physical Store:       %s\n", container, store)
		return 0
	case len(args) == 2 && args[0] == "repairDisk" && args[1] == strings.TrimRight(store, "0123456789")[:len("disk0")]:
		return 0
	case len(args) == 4 && args[0] == "apfs" && args[1] == "resizeContainer" && args[3] == "0" && (args[2] == container || args[2] == store):
		if _, err := os.Stat(size); err == nil {
			fmt.Fprintln(os.Stderr, "Error: -69743: The new size must be different than the existing size")
			return 1
		}
		if err := os.WriteFile(size, nil, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(os.Stderr, "diskutil: could not find disk for %q\n", args)
	return 1
}
