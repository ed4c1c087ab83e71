package drill

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// show keeps a line on the terminal up to date until the returned function is
// called.
func (c Config) show(name string, line func() string) (stop func()) {
	if c.Live == nil {
		return func() {}
	}
	done := make(chan struct{})
	var showing sync.WaitGroup
	begun := time.Now()
	showing.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(c.Live, "\r\033[K")
				return
			case <-tick.C:
				fmt.Fprintf(c.Live, "\r\033[K%-14s %4.0fs  %s", name, time.Since(begun).Seconds(), line())
			}
		}
	})
	return func() { close(done); showing.Wait() }
}

func showLoad(lanes []*lane) func() string {
	return func() string {
		var sent, failed, slow, open int64
		for _, l := range lanes {
			sent += l.live.sent.Load()
			failed += l.live.failed.Load()
			slow += l.live.slow.Load()
			open += l.live.open.Load()
		}
		return fmt.Sprintf("sent %d  failed %d  slow %d  waiting %d", sent, failed, slow, open)
	}
}

func showDownload(f *fetch, size int64) func() string {
	return func() string {
		n := f.received.Load()
		return fmt.Sprintf("%d of %d MiB (%d%%)", n>>20, size>>20, n*100/size)
	}
}

// headings of the table. The columns of requests tell what went wrong with them.
const headings = "SCENARIO\tSENT\tGET\tPOST+KEY\tPOST\tLONGEST\tSTEADY\tBACK\tSHARE\tVERDICT"

// Table writes the rows for people to read, and under it every broken promise.
func Table(w io.Writer, rows []*Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, headings)
	var downloads []*Row
	for _, r := range rows {
		if r.Transfer != nil {
			downloads = append(downloads, r)
			continue
		}
		fmt.Fprintln(t, strings.Join(r.cells(), "\t"))
	}
	if len(downloads) < len(rows) {
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "ok: none failed, none took over %v (slow), none ran twice. POST+KEY: with an\nidempotency key. STEADY: until requests were as before. BACK: until all servers\nhad requests again. SHARE: of what is fair, after healing.\n", slowAfter)
	}
	if len(downloads) > 0 {
		t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "DOWNLOAD\tMIB\tIDENTICAL\tBREAKS\tLONGEST GAP\tFETCHED TWICE\tMEMORY\tTOOK\tVERDICT")
		for _, r := range downloads {
			fmt.Fprintln(t, strings.Join(append([]string{r.Scenario}, append(r.Transfer.cells(), r.Verdict())...), "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, r := range rows {
		for _, b := range r.Broken {
			fmt.Fprintf(w, "%s: %s\n", r.Scenario, b)
		}
		for _, b := range r.Unjudged {
			fmt.Fprintf(w, "%s: not judged, because this machine stood still for up to %.0f ms: %s\n", r.Scenario, 1000*r.Driver.Seconds(), b)
		}
		if n := r.voided(); n > 0 {
			fmt.Fprintf(w, "%s: %d requests do not count: they failed while this machine stood still, %v in all\n", r.Scenario, n, r.Stood)
		}
	}
	return nil
}

// voided is how many requests failed while the machine stood still.
func (r *Row) voided() (n int) {
	for _, t := range r.tallies() {
		if t != nil {
			n += t.Voided
		}
	}
	return n
}

func (r *Row) cells() []string {
	if r.Skipped != "" {
		return []string{r.Scenario, "-", "-", "-", "-", "-", "-", "-", "-", r.Verdict()}
	}
	sent, longest := 0, Span{}
	for _, t := range r.tallies() {
		if t != nil {
			sent += t.Sent
			longest = later(longest, t.Longest)
		}
	}
	share := "-"
	if r.ShareDue > 0 {
		share = fmt.Sprintf("%.2f", r.Share)
	} else if r.Fairness > 0 {
		share = fmt.Sprintf("max/min %.3f", r.Fairness)
	}
	return []string{r.Scenario, fmt.Sprint(sent), r.GET.cell(), r.Keyed.cell(), r.Unkeyed.cell(),
		longest.String(), r.Steady.String(), r.Back.String(), share, r.Verdict()}
}

// cell is what went wrong with requests of one kind.
func (t *Tally) cell() string {
	if t == nil {
		return "-"
	}
	var wrong []string
	for _, w := range []struct {
		n    int
		what string
	}{{t.Failed, "failed"}, {t.Slow, "slow"}, {t.Twice, "twice"}} {
		if w.n > 0 {
			wrong = append(wrong, fmt.Sprint(w.n, " ", w.what))
		}
	}
	if len(wrong) == 0 {
		return "ok"
	}
	return strings.Join(wrong, ", ")
}

// Verdict is the last column: kept, BROKEN, not judged, or why it was skipped.
func (r *Row) Verdict() string {
	switch {
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case len(r.Broken) > 0:
		return "BROKEN"
	case len(r.Unjudged) > 0:
		return "not judged (machine busy)"
	}
	return "kept"
}

func (t *Transfer) cells() []string {
	identical, memory := "no", "-"
	if t.Identical {
		identical = "yes"
	}
	if t.Memory > 0 {
		memory = fmt.Sprintf("%d MB", t.Memory>>20)
	}
	return []string{fmt.Sprintf("%d/%d", t.Received>>20, t.Size>>20), identical, fmt.Sprint(t.Breaks),
		fmt.Sprintf("%.0fms", 1000*t.Gap.d.Seconds()), fmt.Sprintf("%.2f%%", 100*t.Twice), memory, t.Took.String()}
}
