// Package logging is the one form of the programs' logs: a JSON object a line for
// programs that read them, and short lines for people at a terminal.
package logging

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// timeLayout has milliseconds and the zone: lines of several machines are compared.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// New logs to w: everything with verbose, else what happens.
func New(w io.Writer, verbose bool) *zap.Logger {
	return zap.New(zapcore.NewCore(Encoder(w), zapcore.Lock(zapcore.AddSync(w)), Level(verbose)))
}

// Level is the least that is logged.
func Level(verbose bool) zapcore.Level {
	if verbose {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

// Encoder writes the lines for w, by what w is.
func Encoder(w io.Writer) zapcore.Encoder {
	if l := termstyle.Of(w); l.Terminal {
		return console(l)
	}
	return JSON()
}

// JSON writes an object a line.
func JSON() zapcore.Encoder {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.TimeEncoderOfLayout(timeLayout)
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.CallerKey, c.StacktraceKey = zapcore.OmitKey, zapcore.OmitKey
	return zapcore.NewJSONEncoder(c)
}

// console writes lines for people: the time of day, a word where something is
// wrong, the message, and the facts behind it.
func console(l termstyle.Look) zapcore.Encoder {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.CallerKey, c.StacktraceKey, c.NameKey = zapcore.OmitKey, zapcore.OmitKey, zapcore.OmitKey
	c.ConsoleSeparator = "  "
	c.EncodeLevel = func(level zapcore.Level, out zapcore.PrimitiveArrayEncoder) {
		word := level.String()
		switch {
		case level >= zapcore.ErrorLevel:
			word = l.Bad(word)
		case level == zapcore.WarnLevel:
			word = l.Warn(word + " ")
		default:
			word = l.Dim(word + " ")
		}
		out.AppendString(word)
	}
	return zapcore.NewConsoleEncoder(c)
}
