package main

import (
	"os"
	"path/filepath"
	"runtime"
)

// installedAgents is where a release puts the agent's programs for Macs: share
// beside the bin that this program is in. "" when there is no such folder.
func installedAgents() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return ""
	}
	dir := filepath.Join(filepath.Dir(self), "..", "share", "ankacluster", "agents")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

func rootsDataDir() string {
	if runtime.GOOS == "darwin" {
		return filepath.Join("/Library/Application Support", program)
	}
	return filepath.Join("/var/lib", program)
}

// defaultDataDir is where a service, or a user who tries it out, keeps data.
func defaultDataDir() string {
	const name = program
	if os.Geteuid() == 0 {
		return rootsDataDir()
	}
	if runtime.GOOS == "darwin" {
		home, _ := os.UserHomeDir()
		return filepath.Join(home, "Library", "Application Support", name)
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name)
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".local", "share", name)
}
