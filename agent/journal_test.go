package agent

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Whoever looks at the journal before a claim is in it has begun to look before
// the claim's time, however long the disk took: an answer of the cloud to what was
// seen then says nothing of the claim.
func TestClaimIsNotOlderThanItIsVisible(t *testing.T) {
	dir := Dir(t.TempDir())
	if err := os.MkdirAll(dir.path("journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	const claims = 100
	written := make(chan error, 1)
	go func() {
		for n := range claims {
			r := Record{Task: controllerapi.Task{ID: controllerapi.TaskID(fmt.Sprint("s.", n))}, State: Claimed, Claimed: time.Now()}
			if err := j.put(r); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	missedAt := make(map[int]time.Time) // when the last look at n records began
	for ended := false; !ended; {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
		began := time.Now()
		missedAt[len(j.all())] = began
	}
	records := j.all()
	for n, began := range missedAt {
		if n < claims && began.After(records[n].Claimed) {
			t.Errorf("a look that began %s after claim %d did not find it", began.Sub(records[n].Claimed), n)
		}
	}
}
