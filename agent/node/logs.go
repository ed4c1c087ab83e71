package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/logship"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/logging"
)

// logs are the agent's logs: lines of JSON in files that rotate.
type logs struct {
	agent    *zap.Logger
	commands *zap.Logger
	files    []*logFile
	encoder  zapcore.Encoder
	level    zapcore.Level
}

func openLogs(dir state.Dir, verbosity int) (*logs, error) {
	if err := os.MkdirAll(dir.LogDir(), 0o700); err != nil {
		return nil, err
	}
	level := logging.Level(verbosity > 0)
	// Documented limits of the original: 700 MB and 7 days for the log, 1 GB for
	// the commands. Ours are terser and need a tenth.
	l := &logs{encoder: logging.JSON(), level: level}
	open := func(path string, megabytes int) *zap.Logger {
		f := newLogFile(&lumberjack.Logger{Filename: path, MaxSize: megabytes, MaxBackups: 5, MaxAge: 7, Compress: true})
		l.files = append(l.files, f)
		return zap.New(zapcore.NewCore(l.encoder.Clone(), f, level))
	}
	l.agent = open(dir.LogFile(), 20)
	l.commands = open(dir.CommandLogFile(), 20)
	return l, nil
}

// shippedTo returns the agent's log with every line going to w as well.
func (l *logs) shippedTo(w zapcore.WriteSyncer) *zap.Logger {
	return l.agent.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, zapcore.NewCore(l.encoder.Clone(), w, l.level))
	}))
}

// logTarget is the way to the registry's central logs. It is complete only once
// the agent is there; until then no line is wanted.
type logTarget struct {
	agent atomic.Pointer[agent.Agent]
	pools atomic.Pointer[Pools]
}

func (c *logTarget) begin(a *agent.Agent, p *Pools) {
	c.pools.Store(p)
	c.agent.Store(a)
}

func (c *logTarget) wanted() bool {
	a := c.agent.Load()
	return a != nil && a.LogsCentrally()
}

func (c *logTarget) send(id controllerapi.NodeID) logship.Send {
	return func(ctx context.Context, lines []byte) error {
		return c.pools.Load().registryClient().SendLog(ctx, "nodes/"+string(id)+"/agent.log", bytes.NewReader(lines))
	}
}

func (l *logs) close() {
	for _, f := range l.files {
		_ = f.Close()
	}
}

// logFile is a rotated log whose file, or whole directory, may be removed by
// others: it is then made again (A20). Without that the writes would go to a
// file without a name until the disk is full.
type logFile struct {
	*lumberjack.Logger

	mu      sync.Mutex
	checked time.Time // guarded by mu
}

// logCheck is how often a log file is looked for.
const logCheck = 2 * time.Second

func newLogFile(l *lumberjack.Logger) *logFile { return &logFile{Logger: l} }

func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	if now := time.Now(); now.Sub(f.checked) >= logCheck {
		f.checked = now
		if _, err := os.Stat(f.Filename); errors.Is(err, os.ErrNotExist) {
			_ = f.Close() // opened again by the write
		}
	}
	f.mu.Unlock()
	return f.Logger.Write(p)
}

// Sync has nothing to do: nothing is buffered.
func (f *logFile) Sync() error { return nil }
