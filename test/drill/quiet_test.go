package drill

import (
	"context"
	"slices"
	"testing"
	"time"
)

// What a scenario came to each time it was held, and what its verdict is then.
func TestScenarioIsHeldAgainBeforeItsVerdict(t *testing.T) {
	t.Parallel()
	const busyMachine, quietMachine = 200 * time.Millisecond, 5 * time.Millisecond
	kept := Row{Driver: lasting(busyMachine)}
	broken := Row{Driver: lasting(quietMachine), Broken: []string{"late"}}
	busy := Row{Driver: lasting(busyMachine), Broken: []string{"late"}}
	twice := Row{Driver: lasting(busyMachine), Broken: []string{"1 run twice"}, GET: &Tally{}, Keyed: &Tally{Twice: 1}}
	altered := Row{Driver: lasting(busyMachine), Broken: []string{"the bytes differ"}, Transfer: &Transfer{Size: 1, Received: 1}}
	for name, test := range map[string]struct {
		tries    int
		rows     []Row
		held     int
		broken   bool
		unjudged bool
	}{
		"kept":                                   {tries: 3, rows: []Row{kept}, held: 1},
		"broken on a quiet machine":              {tries: 1, rows: []Row{broken, kept}, held: 1, broken: true},
		"broken once, and three tries":           {tries: 3, rows: []Row{broken, kept}, held: 2},
		"broken each time":                       {tries: 3, rows: []Row{broken, broken, broken, kept}, held: 3, broken: true},
		"busy once":                              {tries: 1, rows: []Row{busy, kept}, held: 2},
		"busy, then broken on a quiet machine":   {tries: 1, rows: []Row{busy, broken, kept}, held: 2, broken: true},
		"busy to the end":                        {tries: 1, rows: []Row{busy, busy, busy}, held: 3, unjudged: true},
		"a pause does not make writes run twice": {tries: 1, rows: []Row{twice, kept}, held: 1, broken: true},
		"nor change bytes":                       {tries: 1, rows: []Row{altered, kept}, held: 1, broken: true},
	} {
		held := 0
		r := &repeats{tries: test.tries, busy: 2}
		row, err := r.hold(t.Context(), scenario{}, func(context.Context, scenario) (*Row, error) {
			row := test.rows[held]
			row.Broken = slices.Clone(row.Broken)
			held++
			return &row, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if held != test.held || (len(row.Broken) > 0) != test.broken || (len(row.Unjudged) > 0) != test.unjudged || row.Repeated != held-1 {
			t.Errorf("%s: held %d times, broken %q, not judged %q; want %d, %v, %v", name, held, row.Broken, row.Unjudged, test.held, test.broken, test.unjudged)
		}
	}
}
