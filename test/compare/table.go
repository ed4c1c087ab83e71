package main

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

// write is the whole document: the table, and how to read and repeat it.
func write(w io.Writer, o options, all results) error {
	p := &printer{w: w}
	p.line("# Balancing compared")
	p.line("")
	p.line("The same drills through HAProxy, nginx and Caddy, through a Go client that rotates over a list and")
	p.line("repeats what fails, and through this project's balancer. `make compare` measures this page anew.")
	p.line("")
	p.line("Measured on %s with %d processors (%s/%s), %s; %s; %s; %s.", time.Now().UTC().Format("2006-01-02"),
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, version("haproxy", "-v"), version("nginx", "-v"), version("caddy", "version"), runtime.Version())
	p.line("Three backends on loopback. Two clients at %d requests a second each, half GET and half POST, every", o.drill.Rate)
	p.line("request due at a fixed time; the POSTs of one client carry an `Idempotency-Key`. The fault lasts %v;", o.drill.Duration)
	p.line("about %d requests of each client meet the broken backend's third.", int(float64(o.drill.Rate)*o.drill.Duration.Seconds()/3))
	p.line("")
	p.line("## What callers notice")
	p.line("")
	p.line("Failed / slower than 0.5 s / run twice, of GETs, of POSTs with a key and of POSTs without one; then the")
	p.line("time until nothing goes wrong any more, and the time from healing until the backend answers again.")
	p.line("A cell with nothing but zeros says `clean`.")
	p.line("")
	p.row("fault", o.headings()...)
	p.row("---", repeat("---", len(o.doors))...)
	for _, name := range drill.Names() {
		var cells []string
		found := false
		for _, door := range o.doors {
			r := all.last(door, name)
			found = found || r != nil
			cells = append(cells, cell(r))
		}
		if found {
			p.row("**"+name+"**: "+drill.About(name), cells...)
		}
	}
	p.speed(all.Speed)
	p.method()
	if o.promises != "" {
		p.line("")
		p.line("%s", strings.TrimSpace(o.promises))
	}
	return p.err
}

func (o options) headings() []string {
	names := map[string]string{"haproxy": "HAProxy, tuned", "nginx": "nginx, tuned", "caddy": "Caddy, tuned", "rotating": "rotating Go client", "balancer": "balancer"}
	var out []string
	for _, d := range o.doors {
		out = append(out, names[d])
	}
	return out
}

// last returns the newest row of a scenario through a door.
func (r results) last(door, scenario string) (row *drill.Row) {
	for _, x := range r.Rows {
		if x.Door == door && x.Scenario == scenario {
			row = x
		}
	}
	return row
}

func cell(r *drill.Row) string {
	switch {
	case r == nil:
		return "not measured"
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case r.Transfer != nil:
		return transferCell(r.Transfer)
	}
	var parts []string
	add := func(name string, t *drill.Tally, posts bool) {
		switch {
		case t == nil || t.Failed+t.Slow+t.Twice == 0:
		case posts:
			parts = append(parts, fmt.Sprintf("%s %d/%d/%d", name, t.Failed, t.Slow, t.Twice))
		default:
			parts = append(parts, fmt.Sprintf("%s %d/%d", name, t.Failed, t.Slow))
		}
	}
	add("GET", r.GET, false)
	add("key", r.Keyed, true)
	add("no key", r.Unkeyed, true)
	if len(parts) == 0 {
		parts = append(parts, "clean")
	}
	if r.Scenario == "none" {
		return fmt.Sprintf("%s; most/least %.3f", strings.Join(parts, ", "), r.Fairness)
	}
	back := r.Back.String()
	if back == "never" { // a door may need longer than anybody looked
		back = "not while watched"
	}
	return fmt.Sprintf("%s; steady %s, back %s", strings.Join(parts, ", "), r.Steady, back)
}

func transferCell(t *drill.Transfer) string {
	if !t.Identical {
		return fmt.Sprintf("truncated at %d of %d MiB; longest gap %s", t.Received>>20, t.Size>>20, t.Gap)
	}
	out := fmt.Sprintf("complete, identical after %d breaks; longest gap %.0f ms, %.2f %% fetched twice", t.Breaks, t.Gap.Seconds()*1000, 100*t.Twice)
	if t.Memory > 0 {
		out += fmt.Sprintf(", %d MB of memory", t.Memory>>20)
	}
	return out
}

func version(program, flag string) string {
	out, err := exec.Command(program, flag).CombinedOutput()
	if err != nil {
		return program + " not found"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	first, _, _ = strings.Cut(strings.TrimSpace(first), " - ")
	first, _, _ = strings.Cut(first, " h1:") // caddy's sum
	if !strings.Contains(strings.ToLower(first), program) {
		first = program + " " + first
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(first, "nginx version: ", "")), " ")
}

func repeat(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

// printer remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) row(first string, cells ...string) {
	p.line("%s", "| "+first+" | "+strings.Join(cells, " | ")+" |")
}

func (p *printer) speed(all []speed) {
	if len(all) == 0 {
		return
	}
	p.line("")
	p.line("## What it costs")
	p.line("")
	p.line("Medians of %d rounds, the doors in turn in each: one download of 2 GiB, and small GETs over %d", speedRounds, connections)
	p.line("connections. `balancer` is `ankacluster proxy`. Driver, proxy and backends share the processors.")
	p.line("")
	p.row("through", "download, MiB/s", "CPU seconds per GiB", "small requests/s")
	p.row("---", "---:", "---:", "---:")
	for _, name := range doorNames {
		rate, ok := median(all, name, "download", drill.Speed.MiBPerSecond)
		cpu, _ := median(all, name, "download", drill.Speed.CPUPerGiB)
		requests, _ := median(all, name, "requests", drill.Speed.PerSecond)
		if ok {
			p.row(name, fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.2f", cpu), fmt.Sprintf("%.0f", requests))
		}
	}
}

func (p *printer) method() {
	p.line("")
	p.line("%s", strings.TrimSpace(methodText))
}

const methodText = `
## How it is measured

- Latency counts from when a request was due, not from when it could be sent: a stall shows in every request
  that it delayed. A request is given up after 30 s.
- The backends do the work of a POST before they are slow or reset, and keep a common memory of keys, as the
  controllers do in etcd. What ran, and how often, is counted in that memory and not by the callers.
- Each of the two clients has an instance of its own of whatever balances, so that neither learns from the other.
- The configurations are in ` + "`comparison`" + ` of ` + "`deploy/haproxy`, `deploy/nginx` and `deploy/caddy`" + `. All repeat whatever they
  can, and a POST only when it carries a key. HAProxy and Caddy check readiness every second or half, and take a server out
  after five and three errors of real traffic; nginx has no active checks. A call may take a second at all three.
- The rotating client gives an attempt 2 s and repeats anything on the next address, whatever the method.
- Rows may come from several runs on the same machine (see ` + "`-results`" + ` of ` + "`test/compare`" + `); the figures of
  one line of costs always come from runs in which the doors took turns.
- "Steady" is how long after the fault requests still went wrong; "never" means to the end of the fault.
`
