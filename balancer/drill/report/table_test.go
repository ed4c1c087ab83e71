package report

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

// TestTableSaysWhatWentWrong is about what people read: words, at 80 columns.
func TestTableSaysWhatWentWrong(t *testing.T) {
	t.Parallel()
	rows := []*drill.Row{
		{Scenario: "kill", GET: &drill.Tally{Sent: 100}, Keyed: &drill.Tally{Sent: 50}, Unkeyed: &drill.Tally{Sent: 50, Failed: 2}, ShareDue: 1, Share: 0.98},
		{Scenario: "hang", GET: &drill.Tally{Sent: 100, Slow: 3}, Keyed: &drill.Tally{Sent: 50, Failed: 1, Twice: 1}, Broken: []string{"a promise"}},
	}
	var out bytes.Buffer
	if err := Table(&out, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GET", "POST+KEY", " ok ", " 2 failed ", " 3 slow ", " 1 failed, 1 twice ", "BROKEN", "hang: a promise"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	out.Reset()
	all := []*drill.Row{{Scenario: "hang-and-die", GET: &drill.Tally{Sent: 12345}, Keyed: &drill.Tally{}, Unkeyed: &drill.Tally{}, ShareDue: 1, Share: 1}}
	if err := Table(&out, all); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
