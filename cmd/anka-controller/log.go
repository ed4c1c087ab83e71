package main

import (
	"io"
	"path/filepath"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/ankacluster/ankacluster/internal/logging"
)

// logFiles is over how many files a log's size is spread: rotation drops one of
// them at a time.
const logFiles = 7

// newLogger logs to stderr or, with --log-dir, to rotated files: one with
// everything and one with errors only, which lives by its own limits. Stderr is
// then left to what ends the process: under launchd it is a file that nothing
// rotates.
func (c *config) newLogger(stderr io.Writer) *zap.Logger {
	level, enc := logging.Level(c.Verbosity > 0), logging.JSON()
	own := level
	if c.LogDir != "" {
		own = zapcore.DPanicLevel
	}
	cores := []zapcore.Core{zapcore.NewCore(logging.Encoder(stderr), zapcore.Lock(zapcore.AddSync(stderr)), own)}
	if c.LogDir != "" {
		rotated := func(name string, megabytes, days int) zapcore.WriteSyncer {
			return zapcore.AddSync(&lumberjack.Logger{Filename: filepath.Join(c.LogDir, name),
				MaxSize: max(1, megabytes/logFiles), MaxBackups: logFiles - 1, MaxAge: days, Compress: false})
		}
		cores = append(cores,
			zapcore.NewCore(enc, rotated("anka-controller.log", c.LogMaxMB, c.LogMaxDays), level),
			zapcore.NewCore(enc, rotated("anka-controller-error.log", c.ErrorLogMaxMB, c.ErrorLogMaxDays), zapcore.ErrorLevel))
	}
	return zap.New(zapcore.NewTee(cores...))
}
