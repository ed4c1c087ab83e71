package chaos

import (
	"testing"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/simnode"
)

func TestDamagedAnswerIsAViolation(t *testing.T) {
	t.Parallel()
	c := &clients{ledger: simnode.NewLedger()}
	i := controllerapi.Instance{InstanceID: "i", ExternalID: "key", Metadata: simnode.Mark("key", markMost)}
	if c.compare(i); len(c.ledger.Violations()) != 0 {
		t.Fatalf("a whole answer: %s", c.ledger.Violations()[0])
	}
	i.ExternalID = "another"
	if c.compare(i); len(c.ledger.Violations()) != 1 {
		t.Errorf("got %v, want one violation", c.ledger.Violations())
	}
}
