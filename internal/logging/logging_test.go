package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ankacluster/ankacluster/internal/termstyle"
)

func TestAPipeGetsObjects(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	New(&out, false).Named("part").Warn("message", zap.Duration("for", time.Second), zap.Error(errors.New("why")))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339, line["ts"].(string)); err != nil {
		t.Error(err)
	}
	delete(line, "ts")
	want := map[string]any{"level": "warn", "logger": "part", "msg": "message", "for": "1s", "error": "why"}
	if len(line) != len(want) {
		t.Errorf("got %v, want %v", line, want)
	}
	for k, v := range want {
		if line[k] != v {
			t.Errorf("%s: got %v, want %v", k, line[k], v)
		}
	}
}

func TestPeopleGetShortLines(t *testing.T) {
	t.Parallel()
	e := zapcore.Entry{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Level: zapcore.InfoLevel, Message: "ready", LoggerName: "store"}
	got, err := console(termstyle.Look{Terminal: true}).EncodeEntry(e, []zap.Field{zap.Int("nodes", 3)})
	if err != nil {
		t.Fatal(err)
	}
	if want := `03:04:05  info   ready  {"nodes": 3}`; strings.TrimSpace(got.String()) != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}
