// Package report writes a drill for people: as a table for a terminal, and as one page of
// HTML that asks nobody for anything: no script, no font, no picture from elsewhere.
//
//	report.Write(w, report.Drill{Rows: rows, Command: "ankacluster drill --seed 1", …})
//
// Each scenario has a plot for each door it was held through, of requests in time, and
// a table of what is promised, what was measured, and the verdict.
package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

// Drill is what is shown.
type Drill struct {
	Command string    // the line that repeats it
	Machine string    // what it was held on
	Version string    // of the program
	At      time.Time // when it began
	Took    time.Duration
	Config  drill.Config
	// Rows are the outcomes, in any order; those of one scenario stand together.
	Rows []*drill.Row
}

//go:embed page.html
var page string

var pageTemplate = template.Must(template.New("page").Parse(page))

// Write writes the page.
func Write(w io.Writer, d Drill) error { return pageTemplate.Execute(w, viewOf(d)) }

// view is the page's data.
type view struct {
	Drill
	Begun, Took string
	Doors       []string
	Scenarios   []scenarioView
	Kept, All   int
	Legend      []string
}

type scenarioView struct {
	Name, About string
	Doors       []doorView
}

type doorView struct {
	Name, Verdict, Class string
	Skipped              string
	Promises             string // kept of all
	Wrong                string // what callers noticed, in words
	Checks               []checkView
	Broken, Unsure       []string
	Stood                string // what is to be known of that
	Plot                 *picture
}

type checkView struct {
	Promise, Measured, Verdict, Class string
}

func viewOf(d Drill) view {
	v := view{Drill: d, Begun: d.At.UTC().Format("2006-01-02 15:04 MST"), Took: d.Took.Round(time.Second).String()}
	for _, name := range drill.Names() {
		s := scenarioView{Name: name, About: drill.About(name)}
		for _, r := range d.Rows {
			if r.Scenario == name {
				s.Doors = append(s.Doors, doorOf(r))
			}
		}
		if len(s.Doors) == 0 {
			continue
		}
		v.Scenarios = append(v.Scenarios, s)
		if len(s.Doors) > len(v.Doors) {
			v.Doors = nil
			for _, door := range s.Doors {
				v.Doors = append(v.Doors, door.Name)
			}
		}
	}
	for _, r := range d.Rows {
		v.All++
		if r.Verdict() == "kept" {
			v.Kept++
		}
	}
	return v
}

func doorOf(r *drill.Row) doorView {
	door := doorView{Name: r.Door, Verdict: r.Verdict(), Skipped: r.Skipped, Class: classOf(r.Verdict()), Wrong: wrong(r)}
	kept := 0
	for _, c := range r.Checks {
		if c.Verdict() == "kept" {
			kept++
		}
		door.Checks = append(door.Checks, checkView{c.Promise, c.Measured, c.Verdict(), classOf(c.Verdict())})
		door.Broken = append(door.Broken, c.Broken)
		door.Unsure = append(door.Unsure, c.Unjudged)
	}
	door.Broken, door.Unsure = said(door.Broken), said(door.Unsure)
	if r.Stood.Seconds() > 0 {
		door.Stood = fmt.Sprintf("This machine stood still for %v in all, which is taken from every time.", r.Stood)
		if n := voided(r); n > 0 {
			door.Stood += fmt.Sprintf(" %d requests that failed in it do not count.", n)
		}
	}
	door.Promises = fmt.Sprintf("%d of %d", kept, len(door.Checks))
	if p := r.Plot; p != nil {
		door.Plot = draw(p, r.Scenario+", "+r.Door)
	}
	return door
}

// wrong is what callers noticed.
func wrong(r *drill.Row) string {
	if t := r.Transfer; t != nil {
		return fmt.Sprintf("longest gap %v", t.Gap)
	}
	var failed, slow, twice int
	for _, t := range tallies(r) {
		if t != nil {
			failed, slow, twice = failed+t.Failed, slow+t.Slow, twice+t.Twice
		}
	}
	var words []string
	for _, w := range []struct {
		n    int
		what string
	}{{failed, "failed"}, {slow, "slow"}, {twice, "run twice"}} {
		if w.n > 0 {
			words = append(words, fmt.Sprint(w.n, " ", w.what))
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

func said(notes []string) (out []string) {
	for _, n := range notes {
		if n != "" {
			out = append(out, n)
		}
	}
	return out
}

// classOf is the class of the style sheet for a verdict.
func classOf(verdict string) string {
	switch verdict {
	case "kept":
		return "good"
	case "BROKEN":
		return "bad"
	}
	return "open"
}
