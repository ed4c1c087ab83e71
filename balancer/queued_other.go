//go:build unix && !linux

package balancer

const inputQueue = 0x4004667f // FIONREAD of the BSDs, macOS among them
