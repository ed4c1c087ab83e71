// Package progress shows how far something is: a bar on a terminal, a line every
// tenth elsewhere, and nothing where a program reads.
package progress

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Bar is a progress in bytes. It is for one goroutine at a time.
type Bar struct {
	out   io.Writer
	what  string
	quiet bool
	bar   *progressbar.ProgressBar
	tenth int64
}

// New returns a bar that writes to out; what names what is going on. A quiet one
// writes nothing.
func New(out io.Writer, what string, quiet bool) *Bar {
	b := &Bar{out: out, what: what, quiet: quiet, tenth: -1}
	if f, ok := out.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		b.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	}
	return b
}

// Report shows that done of total bytes are there.
func (b *Bar) Report(done, total int64) {
	switch {
	case b.quiet:
	case b.bar != nil:
		b.bar.ChangeMax64(max(total, 1))
		_ = b.bar.Set64(done) // a bar that cannot be drawn is no reason to stop
	case total > 0 && done*10/total > b.tenth:
		b.tenth = done * 10 / total
		fmt.Fprintf(b.out, "%s: %d%% of %s\n", b.what, b.tenth*10, Size(total))
	}
}

// End takes the bar off the terminal.
func (b *Bar) End() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}

// Size writes bytes for people.
func Size[N int64 | uint64](n N) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 3 {
		f /= unit
		i++
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGT"[i])
}
