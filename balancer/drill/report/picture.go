package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

// The picture's measures, in its own units. It grows with the page.
const (
	wide     = 960
	left     = 44 // of the axis
	right    = 20
	high     = 150 // of the stack of requests
	top      = 18  // for the unit
	strip    = 16  // of a backend's line below it
	backends = 3
	headroom = 1.1 // above the highest column, where the fault's shade shows
)

// picture is a Plot as SVG's shapes.
type picture struct {
	Title         string
	Width, Height int
	Left, Right   int // where the stack begins and ends
	Bottom        int // of the stack
	Areas         []area
	Shades        []box
	Strips        []stripView
	Ticks         []tick
	Levels        []tick
	Unit          string
	Axis          int // where the labels of time stand
}

// area is one part of the stack.
type area struct{ Class, Path, Name string }

type box struct {
	X, Y, Width, Height int
	Title               string
}

type stripView struct {
	Class, Name string
	Y, Middle   int
	Broken      []box
	Out         []box
	Marks       []mark
}

// mark is a moment at which a backend was taken out, or back.
type mark struct {
	Points, Class, Title string
}

type tick struct {
	At    int
	Label string
}

// draw turns a Plot into shapes. Times are of the scenario, from left to right; on the
// stack each PlotStep is a column of requests by what became of them.
func draw(p *drill.Plot, title string) *picture {
	stack := high
	pic := &picture{Title: title, Width: wide, Left: left, Right: wide - right, Bottom: top + stack, Unit: "requests a 0.1 s"}
	x := func(at time.Duration) int {
		part := float64(at) / float64(max(p.Length, drill.PlotStep))
		return left + int(math.Round(min(1, max(0, part))*float64(wide-right-left)))
	}
	parts, most := partsOf(p)
	level := niceLevel(most * headroom)
	y := func(n float64) int { return top + stack - int(math.Round(n/level*float64(stack))) }
	base := make([]float64, stepsOf(parts))
	for _, part := range parts {
		if path := outline(part.numbers, base, x, y); path != "" {
			pic.Areas = append(pic.Areas, area{part.class, path, part.name})
		}
	}
	for _, part := range []float64{0.5, 1} {
		pic.Levels = append(pic.Levels, tick{y(level * part), label(level * part)})
	}
	if p.Received != nil {
		pic.Unit = "MiB a 0.1 s"
	}
	for _, f := range p.Faults {
		pic.Shades = append(pic.Shades, box{x(f.From), top, max(1, x(f.To)-x(f.From)), stack, "backend " + nameOf(f.Backend) + " is broken"})
	}
	pic.strips(p, x)
	pic.Axis = pic.Bottom + backends*strip + 20
	pic.Height = pic.Axis + 8
	every := tickEvery(p.Length)
	for at := time.Duration(0); at <= p.Length; at += every {
		pic.Ticks = append(pic.Ticks, tick{x(at), fmt.Sprintf("%g s", at.Seconds())})
	}
	return pic
}

// numbers of one kind, a PlotStep each.
type numbers struct {
	class, name string
	numbers     []float64
}

// partsOf are the parts of the stack from below, and its highest column.
func partsOf(p *drill.Plot) (parts []numbers, most float64) {
	for i, n := range p.Answered {
		parts = append(parts, numbers{"b" + nameOf(i), "answered by " + nameOf(i), floats(n, 1)})
	}
	if p.Received != nil {
		parts = append(parts, numbers{"ba", "received", floats(p.Received, 1<<20)})
	} else {
		parts = append(parts, numbers{"slow", "slow", floats(p.Slow, 1)}, numbers{"failed", "failed", floats(p.Failed, 1)})
	}
	for i := range stepsOf(parts) {
		sum := 0.0
		for _, part := range parts {
			if i < len(part.numbers) {
				sum += part.numbers[i]
			}
		}
		most = max(most, sum)
	}
	return parts, most
}

func stepsOf(parts []numbers) (n int) {
	for _, p := range parts {
		n = max(n, len(p.numbers))
	}
	return n
}

func floats[N int | int64](all []N, unit float64) []float64 {
	out := make([]float64, len(all))
	for i, n := range all {
		out[i] = float64(n) / unit
	}
	return out
}

// outline is the path around the numbers, which stand on base; base grows by them. It
// is empty when they are all zero.
func outline(n, base []float64, x func(time.Duration) int, y func(float64) int) string {
	edge := func(i int) int { return x(time.Duration(i) * drill.PlotStep) }
	var path strings.Builder
	some, at := false, 0
	for i, v := range n {
		switch now := y(base[i] + v); {
		case i == 0:
			fmt.Fprintf(&path, "M%d,%d", edge(0), now)
			at = now
		case now != at:
			fmt.Fprintf(&path, "H%dV%d", edge(i), now)
			at = now
		}
		some = some || v > 0
	}
	if !some {
		return ""
	}
	at = -1
	for i := len(n) - 1; i >= 0; i-- {
		if now := y(base[i]); now != at {
			fmt.Fprintf(&path, "H%dV%d", edge(i+1), now)
			at = now
		}
	}
	fmt.Fprintf(&path, "H%dZ", edge(0))
	for i, v := range n {
		base[i] += v
	}
	return path.String()
}

// strips are the lines below the stack: when each backend was broken, and when it was
// taken out and back.
func (pic *picture) strips(p *drill.Plot, x func(time.Duration) int) {
	for i := range backends {
		y := pic.Bottom + 4 + i*strip
		s := stripView{Class: "b" + nameOf(i), Name: nameOf(i), Y: y, Middle: y + strip/2}
		for _, f := range p.Faults {
			if f.Backend == i {
				s.Broken = append(s.Broken, box{x(f.From), y + 2, max(2, x(f.To)-x(f.From)), strip - 4, fmt.Sprintf("broken from %s to %s", clock(f.From), clock(f.To))})
			}
		}
		for _, m := range p.Moves {
			if m.Backend == i {
				s.Marks = append(s.Marks, markOf(m, x(m.At), s.Middle))
			}
		}
		pic.Strips = append(pic.Strips, s)
	}
}

// markOf is a triangle: downwards where a backend goes out, upwards where it returns.
func markOf(m drill.Move, x, y int) mark {
	const half = 5
	if m.Out {
		return mark{fmt.Sprintf("%d,%d %d,%d %d,%d", x-half, y-half, x+half, y-half, x, y+half), "out", fmt.Sprintf("taken out at %s: %s", clock(m.At), m.Why)}
	}
	return mark{fmt.Sprintf("%d,%d %d,%d %d,%d", x-half, y+half, x+half, y+half, x, y-half), "back", fmt.Sprintf("back at %s: %s", clock(m.At), m.Why)}
}

func nameOf(backend int) string { return string(rune('a' + backend)) }

func clock(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// niceLevel is a round number that is not below n.
func niceLevel(n float64) float64 {
	if n <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(n)))
	for _, f := range []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10} {
		if f*unit >= n {
			return f * unit
		}
	}
	return 10 * unit
}

func label(n float64) string { return fmt.Sprintf("%g", math.Round(n*10)/10) }

// tickEvery is the distance of the labels of time.
func tickEvery(length time.Duration) time.Duration {
	for _, d := range []time.Duration{1, 2, 5, 10, 20, 60, 120, 300, 600} {
		if length/(d*time.Second) <= 12 {
			return d * time.Second
		}
	}
	return 20 * time.Minute
}
