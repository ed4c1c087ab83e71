package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

// headings of the table. The columns of requests tell what went wrong with them.
const headings = "SCENARIO\tSENT\tGET\tPOST+KEY\tPOST\tLONGEST\tSTEADY\tBACK\tSHARE\tVERDICT"

// Table writes the rows for people to read, and under it every broken promise.
func Table(w io.Writer, rows []*drill.Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, headings)
	var downloads []*drill.Row
	for _, r := range rows {
		if r.Transfer != nil {
			downloads = append(downloads, r)
			continue
		}
		fmt.Fprintln(t, strings.Join(cells(r), "\t"))
	}
	if len(downloads) < len(rows) {
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "ok: none failed, none took over %v (slow), none ran twice. POST+KEY: with an\nidempotency key. STEADY: until requests were as before. BACK: until all servers\nhad requests again. SHARE: of what is fair, after healing.\n", drill.SlowAfter)
	}
	if len(downloads) > 0 {
		t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "DOWNLOAD\tMIB\tIDENTICAL\tBREAKS\tLONGEST GAP\tFETCHED TWICE\tMEMORY\tTOOK\tVERDICT")
		for _, r := range downloads {
			fmt.Fprintln(t, strings.Join(append([]string{r.Scenario}, append(transferCells(r.Transfer), r.Verdict())...), "\t"))
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
		if n := voided(r); n > 0 {
			fmt.Fprintf(w, "%s: %d requests do not count: they failed while this machine stood still, %v in all\n", r.Scenario, n, r.Stood)
		}
	}
	return nil
}

// voided is how many requests failed while the machine stood still.
func voided(r *drill.Row) (n int) {
	for _, t := range tallies(r) {
		if t != nil {
			n += t.Voided
		}
	}
	return n
}

func cells(r *drill.Row) []string {
	if r.Skipped != "" {
		return []string{r.Scenario, "-", "-", "-", "-", "-", "-", "-", "-", r.Verdict()}
	}
	sent, longest := 0, drill.Span{}
	for _, t := range tallies(r) {
		if t != nil {
			sent += t.Sent
			longest = drill.Later(longest, t.Longest)
		}
	}
	share := "-"
	if r.ShareDue > 0 {
		share = fmt.Sprintf("%.2f", r.Share)
	} else if r.Fairness > 0 {
		share = fmt.Sprintf("max/min %.3f", r.Fairness)
	}
	return []string{r.Scenario, fmt.Sprint(sent), cell(r.GET), cell(r.Keyed), cell(r.Unkeyed),
		longest.String(), r.Steady.String(), r.Back.String(), share, r.Verdict()}
}

// cell is what went wrong with requests of one kind.
func cell(t *drill.Tally) string {
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

func transferCells(t *drill.Transfer) []string {
	identical, memory := "no", "-"
	if t.Identical {
		identical = "yes"
	}
	if t.Memory > 0 {
		memory = fmt.Sprintf("%d MB", t.Memory>>20)
	}
	return []string{fmt.Sprintf("%d/%d", t.Received>>20, t.Size>>20), identical, fmt.Sprint(t.Breaks),
		fmt.Sprintf("%.0fms", 1000*t.Gap.Seconds()), fmt.Sprintf("%.2f%%", 100*t.Twice), memory, t.Took.String()}
}

// tallies are those of each kind of request; one that was not sent is nil.
func tallies(r *drill.Row) []*drill.Tally { return []*drill.Tally{r.GET, r.Keyed, r.Unkeyed} }
