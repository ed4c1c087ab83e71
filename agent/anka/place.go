package anka

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/ankacluster/ankacluster/agent/command"
)

// placeKeys are the settings that say where images and VMs are kept. Either may be
// on another volume than the system.
var placeKeys = []string{"img_lib_dir", "vm_lib_dir"}

// Dirs returns the directories that images and VMs are kept in.
func (c *CLI) Dirs(ctx context.Context) ([]string, error) {
	var dirs []string
	for _, key := range placeKeys {
		a, err := c.query(ctx, command.Words("config").Values(key))
		if err != nil {
			return nil, err
		}
		if dir := configValue(a.Body, key); filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// configValue reads a setting, which is answered bare, or as the value of its name.
func configValue(body json.RawMessage, key string) string {
	if s := flexText(body); s != "" {
		return s
	}
	for _, o := range decodeObjects(body) {
		for _, name := range []string{key, "value"} {
			if s := o.text(name); s != "" {
				return s
			}
		}
	}
	return ""
}

const (
	// logsDir is where anka keeps a log of each VM.
	logsDir = "/Library/Logs/Anka"
	// logTail is how much of its end is read, and logLines how many lines are told.
	logTail, logLines = 16 << 10, 5
)

// lastLog returns the last lines of anka's own log of a VM, "" when there is none.
func (c *CLI) lastLog(id string) string {
	f, err := os.Open(filepath.Join(c.logs, filepath.Base(id)+".log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	data := make([]byte, min(info.Size(), logTail))
	if _, err := f.ReadAt(data, info.Size()-int64(len(data))); err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if info.Size() > logTail {
		lines = lines[1:] // it began before
	}
	lines = lines[max(0, len(lines)-logLines):]
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.ToValidUTF8(strings.Join(lines, " / "), "?")
}
