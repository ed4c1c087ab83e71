package doctor

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// needy is a tart whose VMs need something of the host.
type needy struct{ fakeHypervisor }

func (needy) List(context.Context) ([]hypervisor.VM, error) { return nil, nil }

func (needy) Needs(context.Context) []hypervisor.Need {
	return []hypervisor.Need{
		{What: "tart's user", Met: "ci is logged in"},
		{What: "login keychain", Unmet: "does not open", Advice: "log in", Grave: true},
		{What: "automatic login", Unmet: "is off", Advice: "set it"},
	}
}

// D1: what VMs need of a Mac besides the command are findings, and fail where no VM
// starts without.
func TestNeedsAreFindings(t *testing.T) {
	t.Parallel()
	cfg := Config{HypervisorName: "tart", Hypervisor: needy{fakeHypervisor{version: hypervisor.Version{Product: "tart", Version: "2.28.1"}}}}
	want := []Finding{
		{Check: "hypervisor", Target: "tart", Level: Fail, Summary: "tart 2.28.1: start-up scripts need 2.28.2: its exec hangs when the script comes as a file", Advice: "install tart 2.33.1 or newer"},
		{Check: "hypervisor's VMs", Target: "tart", Level: OK, Summary: "0 VMs, 0 images"},
		{Check: "tart's user", Target: "tart", Level: OK, Summary: "ci is logged in"},
		{Check: "login keychain", Target: "tart", Level: Fail, Summary: "does not open", Advice: "log in"},
		{Check: "automatic login", Target: "tart", Level: Warn, Summary: "is off", Advice: "set it"},
	}
	if diff := cmp.Diff(want, checkHypervisor(t.Context(), cfg)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
