package etcdmember

import (
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quietLog passes on what a person at 3 a.m. would want of etcd's own log; at
// info level a start alone is a page.
type quietLog struct {
	*zap.Logger
	level zap.AtomicLevel
}

// everyStart are warnings of etcd about choices that are right here: REST clients
// of etcd do not exist, and its own users and passwords are not used.
var everyStart = []string{
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	// Of a joining member, until its first entries have arrived.
	"Failed to detect schema version",
	"failed to update storage version",
	"failed to parse cluster version of remote member",
}

func newQuiet(log *zap.Logger) *quietLog {
	level := zap.NewAtomicLevelAt(zap.WarnLevel)
	return &quietLog{level: level, Logger: log.WithOptions(zap.WithCaller(false), zap.AddStacktrace(zap.FatalLevel),
		zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &quietCore{Core: c, level: level} }))}
}

// silence drops everything from now on, except what ends the process.
func (q *quietLog) silence() { q.level.SetLevel(zap.DPanicLevel) }

type quietCore struct {
	zapcore.Core
	level zap.AtomicLevel
}

func (c *quietCore) Enabled(l zapcore.Level) bool { return c.level.Enabled(l) && c.Core.Enabled(l) }

func (c *quietCore) With(fields []zapcore.Field) zapcore.Core {
	return &quietCore{Core: c.Core.With(fields), level: c.level}
}

func (c *quietCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) || slices.Contains(everyStart, e.Message) {
		return ce
	}
	return c.Core.Check(e, ce)
}
