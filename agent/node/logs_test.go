package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/state"
)

// A20: the log's directory is made again when an upgrade of the system, or a
// person, removed it.
func TestA20LogDirectoryIsMadeAgain(t *testing.T) {
	dir := state.Dir(t.TempDir())
	l, err := openLogs(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	read := func() string {
		data, _ := os.ReadFile(dir.LogFile()) // missing reads as empty
		return string(data)
	}
	// sinceLastLook lets the time pass after which the file is looked for.
	sinceLastLook := func() {
		for _, f := range l.files {
			f.mu.Lock()
			f.checked = time.Now().Add(-logCheck)
			f.mu.Unlock()
		}
	}
	l.agent.Info("one")
	for _, remove := range []string{dir.LogFile(), dir.LogDir(), string(dir)} {
		if err := os.RemoveAll(remove); err != nil {
			t.Fatal(err)
		}
		sinceLastLook()
		l.agent.Info("after", zap.String("removed", filepath.Base(remove)))
		l.commands.Info("command")
		if got := read(); !strings.Contains(got, "after") || strings.Contains(got, "one") {
			t.Errorf("after %s was removed the log has %q", remove, got)
		}
		if _, err := os.Stat(dir.CommandLogFile()); err != nil {
			t.Error(err)
		}
	}
}
