package history

import (
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Moment is a time within a recording.
type Moment int64

// never is the return of a call whose answer was lost.
const never Moment = 1 << 62

// Recorder collects operations. Use NewRecorder.
type Recorder struct {
	began time.Time

	mu      sync.Mutex
	creates map[string]*created // by key
	ops     map[controllerapi.InstanceID][]op
	claims  map[string]Moment // first call of each reservation
	reports map[reportKey]Moment
	lists   []list
	foreign []problem // found while recording
}

// created is what is known of one idempotency key.
type created struct {
	key     string
	first   Moment // call of the first attempt
	answers []answer
}

type answer struct {
	call, ret Moment
	ids       []controllerapi.InstanceID
}

// list is one list of instances: what it showed of each one with a key of ours.
type list struct {
	call, ret Moment
	where     string
	states    map[controllerapi.InstanceID]controllerapi.InstanceState
}

type reportKey struct {
	task    controllerapi.TaskID
	node    controllerapi.NodeID
	session string
	seq     int64
}

type kind string

const (
	opCreate    kind = "create"
	opClaim     kind = "claim"
	opDone      kind = "done"
	opTerminate kind = "terminate"
	opRead      kind = "read"
)

// op is one operation on one instance.
type op struct {
	kind      kind
	call, ret Moment
	// unsure is true when no answer came: it may have happened or not.
	unsure bool
	// where is who did it, for people.
	where string

	node    controllerapi.NodeID // claim, done
	attempt int
	// state is what a read saw, "" for not found.
	state controllerapi.InstanceState
}

// NewRecorder returns an empty recording that begins now.
func NewRecorder() *Recorder {
	return &Recorder{began: time.Now(), creates: make(map[string]*created), ops: make(map[controllerapi.InstanceID][]op),
		claims: make(map[string]Moment), reports: make(map[reportKey]Moment)}
}

// Now returns the moment to pass as the call of the operation that comes next.
func (r *Recorder) Now() Moment { return Moment(time.Since(r.began)) }

// Creating notes that a create with key is about to be sent. Call it before
// each attempt.
func (r *Recorder) Creating(key string) Moment {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.creates[key] == nil {
		r.creates[key] = &created{key: key, first: now}
	}
	return now
}

// Created notes the answer to a create; a lost answer needs no note.
func (r *Recorder) Created(key string, call Moment, ids []controllerapi.InstanceID) {
	ret := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.creates[key]
	c.answers = append(c.answers, answer{call, ret, ids})
}

// Terminated notes a call that terminates id; lost tells that no answer came.
func (r *Recorder) Terminated(where string, id controllerapi.InstanceID, call Moment, lost bool) {
	r.add(id, op{kind: opTerminate, call: call, ret: r.returned(lost), unsure: lost, where: where})
}

// Read notes that a reader saw id in state, "" for not found.
func (r *Recorder) Read(where string, id controllerapi.InstanceID, call Moment, state controllerapi.InstanceState) {
	r.add(id, op{kind: opRead, call: call, ret: r.Now(), where: where, state: state})
}

// Listed notes a list of instances. Those whose ExternalID is not a key of this
// recording are ignored; the others must be known by the end.
func (r *Recorder) Listed(where string, call Moment, instances []controllerapi.ListedInstance) {
	l := list{call: call, ret: r.Now(), where: where, states: make(map[controllerapi.InstanceID]controllerapi.InstanceState)}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range instances {
		if r.creates[i.VM.ExternalID] != nil {
			l.states[i.InstanceID] = i.VM.InstanceState
			r.creates[i.VM.ExternalID].seen(i.InstanceID, l, r)
		}
	}
	r.lists = append(r.lists, l)
}

// seen remembers an instance that a list shows for a key, to be compared with
// the answers that the key has got by the end.
func (c *created) seen(id controllerapi.InstanceID, l list, r *Recorder) {
	for _, a := range c.answers {
		for _, known := range a.ids {
			if known == id {
				return
			}
		}
	}
	r.foreign = append(r.foreign, problem{key: c.key, id: id, at: l.ret, where: l.where})
}

// Reserving notes that a reservation is sent, possibly again.
func (r *Recorder) Reserving(reservation string) {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.claims[reservation]; !again {
		r.claims[reservation] = now
	}
}

// Reserved notes that a reservation was answered with a start task.
func (r *Recorder) Reserved(reservation string, node controllerapi.NodeID, id controllerapi.InstanceID, attempt int) {
	ret := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(id, op{kind: opClaim, call: r.claims[reservation], ret: ret, where: string(node), node: node, attempt: attempt})
}

// Reporting notes that a report of a started VM is sent, possibly again.
// before is when the VM began: a controller may have learned of it from a sync.
func (r *Recorder) Reporting(report controllerapi.ReportRequest, before Moment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := reportKey{report.TaskID, report.NodeID, report.Session, report.Seq}
	if _, again := r.reports[k]; !again {
		r.reports[k] = before
	}
}

// Reported notes that a report of a started VM was accepted.
func (r *Recorder) Reported(id controllerapi.InstanceID, report controllerapi.ReportRequest) {
	ret := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	k := reportKey{report.TaskID, report.NodeID, report.Session, report.Seq}
	r.addLocked(id, op{kind: opDone, call: r.reports[k], ret: ret, where: string(report.NodeID), node: report.NodeID, attempt: report.Attempt})
	delete(r.reports, k)
}

// Unconfirmed notes that a report of a started VM will not be sent again, and
// that nobody knows whether it was accepted.
func (r *Recorder) Unconfirmed(id controllerapi.InstanceID, report controllerapi.ReportRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := reportKey{report.TaskID, report.NodeID, report.Session, report.Seq}
	r.addLocked(id, op{kind: opDone, call: r.reports[k], ret: never, unsure: true, where: string(report.NodeID), node: report.NodeID, attempt: report.Attempt})
	delete(r.reports, k)
}

func (r *Recorder) returned(lost bool) Moment {
	if lost {
		return never
	}
	return r.Now()
}

func (r *Recorder) add(id controllerapi.InstanceID, o op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(id, o)
}

func (r *Recorder) addLocked(id controllerapi.InstanceID, o op) { r.ops[id] = append(r.ops[id], o) }
