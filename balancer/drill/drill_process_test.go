package drill

import (
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/door"
)

func testConfig(t *testing.T, scenario string) Config {
	cfg := DefaultConfig()
	cfg.Scenarios = []string{scenario}
	cfg.Program = self(t)
	cfg.Open = door.Rotating
	cfg.Rate = 50
	cfg.Duration = time.Second
	cfg.Heal = 3 * time.Second
	return cfg
}

func performOne(t *testing.T, cfg Config) *Row {
	t.Helper()
	var rows []*Row
	if err := Run(t.Context(), cfg, func(r *Row) { rows = append(rows, r) }); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 {
		t.Fatalf("got %d rows, want 1", len(rows))
	}
	return rows[0]
}

// A client that repeats everything runs writes twice when answers are lost, and
// the drill must see it: otherwise its zero means nothing.
func TestDrillSeesWritesRunTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds of real time")
	}
	t.Parallel()
	row := performOne(t, testConfig(t, "reset"))
	if row.Unkeyed.Twice == 0 {
		t.Errorf("a client that repeats every POST: %d of %d without a key run twice, want some", row.Unkeyed.Twice, row.Unkeyed.Sent)
	}
	if row.Keyed.Twice != 0 || row.Absorbed == 0 {
		t.Errorf("with a key: %d run twice, %d repeats absorbed, want 0 and some", row.Keyed.Twice, row.Absorbed)
	}
	if len(row.Broken) == 0 {
		t.Error("no promise is broken though writes ran twice")
	}
}

// The latency of a request that waited for a hung backend counts from when it
// was due, and a client that never learns is never steady.
func TestDrillSeesAClientThatNeverLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds of real time")
	}
	t.Parallel()
	cfg := testConfig(t, "hang")
	cfg.Duration = 5 * time.Second
	row := performOne(t, cfg)
	if row.GET.Slow == 0 || !row.Steady.never {
		t.Errorf("got %d slow GETs, steady %v; want some, never", row.GET.Slow, row.Steady)
	}
}
