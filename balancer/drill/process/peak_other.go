//go:build !linux

package process

import "syscall"

// endWithParent has nothing to do: here a fake ends when its standard input does.
func endWithParent(*syscall.SysProcAttr) {}

// notePeak leaves the memory unknown: there is no portable way to ask for it
// while a process runs.
func (p *Process) notePeak() {}
