package cloud

import (
	"errors"
	"slices"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// ErrTaken: the offered task went elsewhere, or the node cannot take it any more.
var ErrTaken = errors.New("task is taken")

// ErrSpent: another long poll with the same reservation has brought its task
// since this one began. The answer to this one is read by no agent.
var ErrSpent = errors.New("reservation is spent")

// Reservation is a node's request for one task.
type Reservation struct {
	ID      string
	Node    api.NodeID
	Session string
	Kinds   []api.TaskKind
	// Repeat is set when the hand-out log has had the reservation when the long poll
	// began.
	Repeat bool
}

// Reserved reports whether the hand-out log has the reservation.
func (v *View) Reserved(r Reservation) bool {
	l := v.HandoutLogs[r.Node]
	return l != nil && (slices.Contains(l.UsedReservations, shortReservation(r.ID)) || slices.ContainsFunc(l.Handouts, r.brought))
}

// spent reports whether the reservation was given a task since it began.
func (v *View) spent(r Reservation) bool { return !r.Repeat && v.Reserved(r) }

// RenewClaim notes that a start is handed out again, if it is still the
// reservation's.
func (i *Instance) RenewClaim(v *View, r Reservation, id api.TaskID, now time.Time) error {
	if i.Ended() || i.TaskID() != id || i.Claim == nil || i.Claim.Reservation != r.ID || i.Claim.Node != r.Node || i.Claim.Done {
		return ErrTaken
	}
	if v.AgeOf(i, now) < reportSkew/3 {
		return ErrNoChange
	}
	claim := *i.Claim
	claim.Seen = now
	i.Claim = &claim
	return nil
}

// HandOut returns the most urgent task that only the reservation's node can do,
// "" for none, and the change that makes it the reservation's.
func (v *View) HandOut(r Reservation, now time.Time) (id api.TaskID, c *Change, certain bool, err error) {
	node, err := v.session(r)
	if err != nil {
		return "", nil, false, err
	}
	if id = v.NextNodeTask(r, now); id == "" {
		return "", nil, true, ErrNoChange
	}
	if v.spent(r) {
		if id = v.OpenTask(r, now); id == "" {
			return "", nil, true, ErrSpent
		}
		return id, nil, true, ErrNoChange // an earlier attempt of ours went through, or another poll's
	}
	c = new(Change)
	c.Must(NodeRef(node.ID), node.Rev)
	v.hand(c, r, id, now)
	return id, c, false, nil
}

// Claim returns the start task of a waiting instance, and the change that places
// the instance on the reservation's node.
func (v *View) Claim(r Reservation, id api.InstanceID, now time.Time) (task api.TaskID, c *Change, certain bool, err error) {
	node, err := v.session(r)
	if err != nil {
		return "", nil, false, err
	}
	cur := v.Instances[id]
	if cur == nil {
		return "", nil, true, ErrTaken
	}
	if cur.Claim != nil && cur.Claim.Reservation == r.ID && cur.Claim.Session == r.Session && !cur.Ended() {
		return cur.TaskID(), nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	if !cur.Pending() || !v.ScheduleNode(node, now).Fits(v.ScheduleTask(cur), now) {
		return "", nil, true, ErrTaken
	}
	if v.spent(r) {
		return "", nil, true, ErrSpent // another controller answered this reservation
	}
	if v.OpenTask(r, now) != "" {
		return "", nil, true, ErrTaken
	}
	next := cur.clone()
	next.Claim = &Claim{Node: r.Node, Session: r.Session, Reservation: r.ID, At: now, Seen: now}
	next.Public.NodeID = r.Node
	next.Public.InflightReqID = r.ID
	next.Public.TS = now
	c = new(Change)
	c.Must(InstanceRef(id), cur.Rev)
	c.Must(NodeRef(node.ID), node.Rev)
	c.Put(InstanceRef(id), next)
	v.hand(c, r, next.TaskID(), now)
	return next.TaskID(), c, false, nil
}

// session returns the reservation's node if the session is the present one.
func (v *View) session(r Reservation) (*Node, error) {
	node := v.Nodes[r.Node]
	if node == nil {
		return nil, ErrUnknownNode
	}
	if node.Session != r.Session {
		return nil, ErrSessionEnded
	}
	return node, nil
}

// OpenTask returns the newest task that the reservation has brought and that is
// not over, or "".
func (v *View) OpenTask(r Reservation, now time.Time) api.TaskID {
	if l := v.HandoutLogs[r.Node]; l != nil {
		for _, h := range slices.Backward(l.Handouts) {
			if r.brought(h) && v.Open(r.Node, h.Task, now) {
				return h.Task
			}
		}
	}
	return ""
}

// brought reports whether the task was handed out under the reservation.
func (r Reservation) brought(h Handout) bool { return h.Reservation == r.ID && h.Session == r.Session }

const (
	// keptSpent is how many reservations of tasks that are over the log
	// keeps; a poll that its sender gave up seldom outlives more.
	keptSpent = 16
	// spentLen is how much of one is kept.
	spentLen = 13
)

func shortReservation(id string) string { return id[:min(len(id), spentLen)] }

// hand adds a hand-out to the node's hand-out log, and forgets those that are over.
func (v *View) hand(c *Change, r Reservation, id api.TaskID, now time.Time) {
	next, rev := HandoutLog{}, int64(0)
	if cur := v.HandoutLogs[r.Node]; cur != nil {
		rev, next.UsedReservations = cur.Rev, slices.Clone(cur.UsedReservations)
		for _, h := range cur.Handouts {
			if h.Task != id && h.Session == r.Session && v.Open(r.Node, h.Task, now) {
				next.Handouts = append(next.Handouts, h)
			} else {
				next.UsedReservations = append(next.UsedReservations, shortReservation(h.Reservation))
			}
		}
		next.UsedReservations = next.UsedReservations[max(0, len(next.UsedReservations)-keptSpent):]
	}
	next.Handouts = append(next.Handouts, Handout{Task: id, Reservation: r.ID, Session: r.Session, At: now})
	c.Must(HandoutLogRef(r.Node), rev)
	c.Put(HandoutLogRef(r.Node), next)
}

// NextNodeTask returns the most urgent task that only the reservation's node can
// do and that has not been handed out in its session.
func (v *View) NextNodeTask(r Reservation, now time.Time) api.TaskID {
	handed := make(map[api.TaskID]bool)
	if l := v.HandoutLogs[r.Node]; l != nil {
		for _, h := range l.Handouts {
			if h.Session == r.Session {
				handed[h.Task] = true
			}
		}
	}
	for _, kind := range nodeTaskKinds {
		if !slices.Contains(r.Kinds, kind) {
			continue
		}
		best := api.TaskID("")
		v.nodeTasks(r.Node, now, kind, func(id api.TaskID) {
			if !handed[id] && (best == "" || id < best) {
				best = id
			}
		})
		if best != "" {
			return best
		}
	}
	return ""
}

// nodeTaskKinds are the kinds that are bound to a node, most urgent first.
var nodeTaskKinds = []api.TaskKind{
	api.TaskTerminate, api.TaskRestart, api.TaskSaveImage, api.TaskRemove, api.TaskDistribute, api.TaskUpgrade,
}

// nodeTasks yields the open tasks of a kind that are bound to a node.
func (v *View) nodeTasks(node api.NodeID, now time.Time, kind api.TaskKind, yield func(api.TaskID)) {
	switch kind {
	case api.TaskTerminate:
		for id, i := range v.onNode[node] {
			if i.Public.InstanceState == api.Terminating {
				yield(api.TerminateTaskID(id))
			}
		}
	case api.TaskRestart:
		for id, i := range v.onNode[node] {
			if i.Restart != nil && !i.Ended() {
				yield(restartTaskID(id, i.Restart.ID))
			}
		}
	case api.TaskSaveImage:
		for _, i := range v.onNode[node] {
			if img := v.SaveRequests[i.Save]; img != nil && img.Status == SavePending && !i.Ended() {
				yield(saveTaskID(i.Save))
			}
		}
	default:
		for id, j := range v.Rollouts {
			if j.Kind == kind && v.rolloutOpen(id, node, now) {
				yield(rolloutTaskID(id, node))
			}
		}
	}
}

func restartTaskID(id api.InstanceID, restart string) api.TaskID {
	return api.TaskID(RestartLetter + "." + string(id) + "." + restart)
}

// Open reports whether a task that was handed to a node is still the node's to do.
func (v *View) Open(node api.NodeID, id api.TaskID, now time.Time) bool {
	kind, ref, rest := SplitTask(id)
	switch kind {
	case StartLetter:
		i := v.Instances[api.InstanceID(ref)]
		return i != nil && i.TaskID() == id && i.Claim != nil && i.Claim.Node == node && !i.Claim.Done && !i.Ended()
	case TerminateLetter:
		i := v.Instances[api.InstanceID(ref)]
		return i != nil && i.Public.InstanceState == api.Terminating && i.Claim != nil && i.Claim.Node == node
	case RestartLetter:
		i := v.Instances[api.InstanceID(ref)]
		return i != nil && i.Restart != nil && i.Restart.ID == rest && !i.Ended() && i.Claim != nil && i.Claim.Node == node
	case SaveLetter:
		img := v.SaveRequests[ref]
		return img != nil && img.Node == node && img.Status == SavePending
	case RolloutLetter:
		return rest == string(node) && v.rolloutOpen(ref, node, now)
	}
	return false
}

// Task returns a task with all that the view has of it, or nil when it is over
// already. The start request of i is still to be filled in if there is a Start.
func (v *View) Task(node api.NodeID, id api.TaskID) (t *api.Task, i *Instance) {
	kind, ref, _ := SplitTask(id)
	i = v.Instances[api.InstanceID(ref)]
	t = &api.Task{ID: id, InstanceID: api.InstanceID(ref), Attempt: 1}
	switch kind {
	case StartLetter:
		if i == nil {
			return nil, nil
		}
		t.Kind, t.Attempt = api.TaskStart, i.Attempt
		t.Start = &api.StartTask{Template: i.Template}
	case TerminateLetter:
		t.Kind = api.TaskTerminate
		if i != nil {
			t.Attempt = i.Attempt
		}
	case RestartLetter:
		if i == nil || i.Restart == nil {
			return nil, nil
		}
		task := i.Restart.Task
		t.Kind, t.Attempt, t.Restart = api.TaskRestart, i.Attempt, &task
	case SaveLetter:
		return v.saveTask(id, ref), nil
	case RolloutLetter:
		return v.rolloutTask(id, ref, node), nil
	}
	return t, i
}
