package agent

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Whoever looks at the journal before a claim is in it has begun to look before
// the claim's time, however long the disk took: an answer of the cloud to what was
// seen then says nothing of the claim.
func TestClaimIsNotOlderThanItIsVisible(t *testing.T) {
	dir := state.Dir(t.TempDir())
	if err := os.MkdirAll(dir.JournalDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	var claiming atomic.Int32 // number of the claim that is being written, from 1; 0 between claims
	enough := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		for n := int32(1); ; n++ {
			r := Record{Task: controllerapi.Task{ID: controllerapi.TaskID(fmt.Sprint("s.", n))}, State: Claimed, Claimed: time.Now()}
			claiming.Store(n)
			err := j.put(r)
			claiming.Store(0)
			if err != nil {
				written <- err
				return
			}
			select {
			case <-enough:
				written <- nil
				return
			default:
			}
		}
	}()
	// Looks that fell into the writing of a claim and did not find it, by how many
	// they found: when the last of them began.
	missedAt := make(map[int]time.Time)
	for len(missedAt) < 20 {
		select {
		case err := <-written:
			t.Fatal(err)
		default:
		}
		n := int(claiming.Load())
		began := time.Now()
		if found := len(j.all()); n > 0 && found == n-1 {
			missedAt[found] = began
		}
	}
	close(enough)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	records := j.all()
	for n, began := range missedAt {
		if began.After(records[n].Claimed) {
			t.Errorf("a look that began %s after claim %d did not find it", began.Sub(records[n].Claimed), n)
		}
	}
}
