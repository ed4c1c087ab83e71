package report

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

func exampleDrill() Drill {
	kept, broken := drill.Check{Promise: "GET: 0 of 9 fail", Measured: "0"}, drill.Check{Promise: "GET: 0 take over 500ms", Measured: "3", Broken: "3 GET over 500ms (0 promised)"}
	plot := &drill.Plot{
		Length: 2 * time.Second, Answered: [][]int{{3, 3, 0}, {3, 3, 4}, {3, 3, 5}}, Slow: []int{0, 0, 1}, Failed: []int{0, 2, 0},
		Faults: []drill.Fault{{Backend: 0, From: 100 * time.Millisecond, To: 200 * time.Millisecond}},
		Moves:  []drill.Move{{Backend: 0, At: 120 * time.Millisecond, Out: true, Why: `3 failures, last: <script>`}, {Backend: 0, At: time.Second, Why: "probe passed"}},
	}
	download := &drill.Plot{Length: time.Second, Received: []int64{1 << 20, 0, 3 << 20}}
	return Drill{
		Command: "ankacluster drill --seed 7 --html 'a b.html'", Machine: "2 processors", Version: "ankacluster 1", At: time.Unix(1_000_000, 0), Took: time.Minute,
		Config: drill.Config{Seed: 7, Rate: 100, Duration: 5 * time.Second},
		Rows: []*drill.Row{
			{Scenario: "kill", Door: "http://other", GET: &drill.Tally{Sent: 9, Slow: 3}, Plot: plot, Checks: []drill.Check{kept, broken}, Broken: []string{"x"}},
			{Scenario: "drop", Door: "http://other", Skipped: "no rights"},
			{Scenario: "kill", Door: "balancer", GET: &drill.Tally{Sent: 9}, Plot: plot, Checks: []drill.Check{kept}},
			{Scenario: "drop", Door: "balancer", Skipped: "no rights"},
			{Scenario: "download-kill", Door: "balancer", Transfer: &drill.Transfer{}, Plot: download, Checks: []drill.Check{kept}},
		},
	}
}

// The page is for a person who opens a file, perhaps without a network: it holds all
// that it shows, and runs nothing.
func TestPageIsWholeAndAsksNobody(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Write(&out, exampleDrill()); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{
		"Seed 7", "2 processors", "ankacluster drill --seed 7 --html &#39;a b.html&#39;", // machine, seed, and the line that repeats it
		`<h2 id="kill">kill</h2>`, "one of three is killed", "no rights", "http://other",
		"GET: 0 take over 500ms", "3 GET over 500ms (0 promised)", "1 of 2 promises kept", "prefers-color-scheme: dark",
		"<title>taken out at 0.12 s: 3 failures, last: &lt;script&gt;</title>", "<title>back at 1.00 s: probe passed</title>", "<title>broken from 0.10 s to 0.20 s</title>",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in the page", want)
		}
	}
	if found := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|@import|url\(|\son\w+=|ZgotmplZ|(src|href)="[^#]`).FindString(page); found != "" {
		t.Errorf("the page holds %q", found)
	}
	for _, element := range []string{"svg", "table", "tbody", "tr", "td", "div", "details", "title", "h3", "ul", "li", "p"} {
		begun, ended := len(regexp.MustCompile("<"+element+"[ >]").FindAllString(page, -1)), strings.Count(page, "</"+element+">")
		if begun != ended || begun == 0 {
			t.Errorf("%d elements %s begin, %d end", begun, element, ended)
		}
	}
}

// The stack ends where its columns end, leaves room above its largest column, and what
// stands in it stands in order. The edges of the three columns are 44, 343, 641, 940.
func TestPictureIsToScale(t *testing.T) {
	t.Parallel()
	p := draw(&drill.Plot{
		Length: 300 * time.Millisecond, Answered: [][]int{{5, 5, 0}, {5, 0, 0}, {0, 0, 0}}, Slow: []int{0, 0, 0}, Failed: []int{0, 0, 10},
		Faults: []drill.Fault{{Backend: 1, From: 100 * time.Millisecond, To: 300 * time.Millisecond}},
	}, "x")
	want := []area{
		{"ba", "M44,105H641V168H940V168H44Z", "answered by a"},
		{"bb", "M44,43H343V105H641V168H940V168H641V105H44Z", "answered by b"},
		{"failed", "M44,43H343V105H641V43H940V168H641V105H343V43H44Z", "failed"},
	}
	if len(p.Areas) != len(want) {
		t.Fatalf("areas %+v, want those that are not empty", p.Areas)
	}
	for i := range want {
		if p.Areas[i] != want[i] {
			t.Errorf("got  %+v\nwant %+v", p.Areas[i], want[i])
		}
	}
	if s := p.Shades; len(s) != 1 || s[0].X != 343 || s[0].X+s[0].Width != 940 || s[0].Height != high {
		t.Errorf("the fault's shade is %+v", s)
	}
	for n, want := range map[float64]float64{0: 1, 0.7: 0.8, 1: 1, 101: 120, 200: 200, 201: 250, 251: 300, 950: 1000} {
		if got := niceLevel(n); got != want {
			t.Errorf("the axis for %v ends at %v, want %v", n, got, want)
		}
	}
}
