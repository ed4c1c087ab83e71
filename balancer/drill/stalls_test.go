package drill

import (
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/stall"
)

// What happens in a stall is not the door's fault, and what happens beside it is.
func TestVerdictLeavesOutExactlyTheStalls(t *testing.T) {
	t.Parallel()
	events := []event{{at: at(2), broke: true}, {at: at(14)}}
	stood := stall.List{{From: at(4), To: at(5)}}
	promised := promise{steady: time.Second, back: time.Second}
	for _, tt := range []struct {
		name    string
		samples []*sample
		broken  int
		voided  int
	}{
		{"slow by the stall alone", []*sample{answered(4.5, 0.8, "b")}, 0, 0},
		{"slow besides", []*sample{answered(4.5, 1.2, "b")}, 2, 0},
		{"failed in the stall", []*sample{failed(4.5)}, 0, 1},
		{"failed after it", []*sample{failed(5.2)}, 2, 0},
		{"failed before it", []*sample{failed(3.9)}, 2, 0},
	} {
		samples := append([]*sample{answered(0.1, 0, "a"), answered(0.2, 0, "b"), answered(0.3, 0, "c"), answered(14.2, 0, "a")}, tt.samples...)
		row := measure([]*lane{{posts: keyed, samples: samples}}, events, ledger{}, 3, at(22), stood)
		broken, _ := verdicts(judge(promised, row))
		if len(broken) != tt.broken || row.GET.Voided != tt.voided {
			t.Errorf("%s: broken %q, %d void; want %d and %d", tt.name, broken, row.GET.Voided, tt.broken, tt.voided)
		}
	}
}

// A share says little when traffic was moved by a stall; a write that ran twice
// says the same at any time.
func TestShareOfAStalledTimeIsNotJudged(t *testing.T) {
	t.Parallel()
	row := &Row{GET: &Tally{}, Keyed: &Tally{Twice: 1}, Share: 0.1, ShareDue: 1}
	if broken, unjudged := verdicts(judge(promise{}, row)); len(broken) != 2 || len(unjudged) != 0 {
		t.Errorf("a quiet machine: broken %q, not judged %q; want both, and none", broken, unjudged)
	}
	row.shareStalled = true
	if broken, unjudged := verdicts(judge(promise{}, row)); len(broken) != 1 || len(unjudged) != 1 {
		t.Errorf("a stall before the share was counted: broken %q, not judged %q; want one each", broken, unjudged)
	}
}
