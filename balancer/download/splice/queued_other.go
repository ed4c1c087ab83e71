//go:build unix && !linux

package splice

const inputQueue = 0x4004667f // FIONREAD of the BSDs, macOS among them
