package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// State of a record.
//
//	          done, VM runs               terminate, claim lost
//	Claimed ---------------> Running -----------------------> Removing --> (gone)
//	   |                      |                                  ^
//	   |  failed, VM kept     v                                  |
//	   +--------------------> Retained --------------------------+
//	   |  failed, returned, done (tasks without a VM)            |
//	   +--------------------> Reporting --> (gone)               |
//	   +---------------------------------------------------------+
//
// The words on disk are from before the names.
type State string

const (
	Claimed   State = "claimed"  // a worker is at it, or resumes it
	Running   State = "up"       // the VM was started for the instance
	Retained  State = "kept"     // it failed and its VM stays for a look
	Reporting State = "told"     // over; the outcome waits to be acknowledged
	Removing  State = "removing" // what it made must go
)

// Record is one claimed task, from the claim to the moment when nothing of it
// is left on the node. It is written before each step that leaves something
// behind, so that after a crash the journal knows at least as much as there is.
type Record struct {
	Task    controllerapi.Task `json:"task"`
	State   State              `json:"state"`
	Claimed time.Time          `json:"claimed"`
	Changed time.Time          `json:"changed"` // when it was last written
	// Lives counts the agent's processes that worked on it. Report sequence
	// numbers begin at Lives * seqPerLife, so that they grow over restarts.
	Lives int `json:"lives"`
	// VMName is set before a VM is made, VMUUID once it is.
	VMName string `json:"vm_name,omitempty"`
	VMUUID string `json:"vm_uuid,omitempty"`
	// Outcome is the last report, until a controller has acknowledged it.
	Outcome *controllerapi.ReportRequest `json:"outcome,omitempty"`
	// LastError is for status and the log.
	LastError string `json:"last_error,omitempty"`
}

const seqPerLife = 1_000_000

// Owns reports whether a VM is the record's.
func (r *Record) Owns(uuid, name string) bool {
	return uuid != "" && uuid == r.VMUUID || name != "" && name == r.VMName
}

// journal is the set of records, on disk and in memory. It is safe for
// concurrent use. Records go in and out by value.
type journal struct {
	dir state.Dir

	writing sync.Mutex // held while a file is written, so that memory and disk agree
	mu      sync.Mutex
	records map[controllerapi.TaskID]Record // guarded by mu
}

// openJournal reads what an earlier process left. Files that cannot be read are
// set aside and named in damaged: one bad file must not stop the node, and what
// it stood for comes back from the cloud's assignments.
func openJournal(dir state.Dir) (j *journal, damaged []string, err error) {
	j = &journal{dir: dir, records: make(map[controllerapi.TaskID]Record)}
	entries, err := os.ReadDir(dir.JournalDir())
	if errors.Is(err, os.ErrNotExist) {
		return j, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir.JournalDir(), e.Name())
		if !strings.HasSuffix(e.Name(), ".json") {
			if strings.HasPrefix(e.Name(), state.TempPrefix) {
				_ = os.Remove(path)
			}
			continue
		}
		var r Record
		if err := state.ReadJSON(path, &r); err != nil || r.Task.ID == "" || journalFile(r.Task.ID) != e.Name() {
			damaged = append(damaged, path)
			_ = os.Rename(path, path+".damaged")
			continue
		}
		j.records[r.Task.ID] = r
	}
	return j, damaged, nil
}

// journalFile is a file name for an id, which comes from outside.
func journalFile(id controllerapi.TaskID) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16]) + ".json"
}

func (j *journal) file(id controllerapi.TaskID) string {
	return filepath.Join(j.dir.JournalDir(), journalFile(id))
}

// put writes a record; when it returns nil the record survives a crash. What is
// Removing stays so: a worker that writes it gets errDiscarded.
func (j *journal) put(r Record) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if old, ok := j.get(r.Task.ID); ok && old.State == Removing && r.State != Removing {
		return errDiscarded
	}
	r.Changed = time.Now()
	if err := state.WriteJSON(j.file(r.Task.ID), r); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.records[r.Task.ID]; !known {
		// Not before the heartbeats can see it, and the disk may be slow: an answer
		// to one that was asked for later and lacks the claim says it was lost.
		r.Claimed = time.Now()
	}
	j.records[r.Task.ID] = r
	return nil
}

// drop forgets a record. A file that stays behind is worked on again after a
// restart, which finds nothing to do.
func (j *journal) drop(id controllerapi.TaskID) {
	j.writing.Lock()
	defer j.writing.Unlock()
	_ = os.Remove(j.file(id))
	j.mu.Lock()
	delete(j.records, id)
	j.mu.Unlock()
}

// resume counts a new life in every record, so that sequence numbers of reports
// go on from above the last process's.
func (j *journal) resume(log *zap.Logger) error {
	records := j.all()
	for _, r := range records {
		r.Lives++
		if err := j.put(r); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	if len(records) > 0 {
		log.Info("found tasks of an earlier run", zap.Int("tasks", len(records)))
	}
	return nil
}

func (j *journal) get(id controllerapi.TaskID) (Record, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok := j.records[id]
	return r, ok
}

func (j *journal) empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.records) == 0
}

// all returns the records, oldest first.
func (j *journal) all() []Record {
	j.mu.Lock()
	list := make([]Record, 0, len(j.records))
	for _, r := range j.records {
		list = append(list, r)
	}
	j.mu.Unlock()
	slices.SortFunc(list, func(a, b Record) int {
		if c := a.Claimed.Compare(b.Claimed); c != 0 {
			return c
		}
		return strings.Compare(string(a.Task.ID), string(b.Task.ID))
	})
	return list
}

// starts returns the records of start tasks of an instance.
func (j *journal) starts(id controllerapi.InstanceID) []Record {
	return slices.DeleteFunc(j.all(), func(r Record) bool {
		return r.Task.Kind != controllerapi.TaskStart || r.Task.InstanceID != id
	})
}
