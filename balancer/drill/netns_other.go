//go:build !linux

package drill

import "errors"

var errNoIsolation = errors.New("dropping packets needs Linux")

func cannotIsolate() string { return errNoIsolation.Error() }

func (b *backendProcess) startIsolated() error { return errNoIsolation }
func (b *backendProcess) dropPackets() error   { return errNoIsolation }
func (b *backendProcess) passPackets() error   { return errNoIsolation }
