package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// ErrTaken: the offered task went elsewhere, or the node cannot take it any more.
var ErrTaken = errors.New("task is taken")

// ErrSpent: another long poll with the same reservation has brought its task
// since this one began. Nobody reads this one's answer.
var ErrSpent = errors.New("reservation is spent")

// Reservation is a node's request for one task.
type Reservation struct {
	ID      string
	Node    api.NodeID
	Session string
	Kinds   []api.TaskKind
	// Repeat is set when the ledger has had the reservation when the long poll
	// began; see Store.Begin.
	Repeat bool
}

// Begin looks at what is known of a reservation when a long poll begins. A proxy
// may keep a poll that its sender gave up, and that sender has begun another with
// the same reservation, has its task, and even has ended it: what the first poll
// was given then, nobody would ever hear of.
func (s *Store) Begin(r *Reservation) {
	s.Read(func(v *View) { r.Repeat = v.reserved(*r) })
}

// reserved reports whether the ledger has the reservation.
func (v *View) reserved(r Reservation) bool {
	l := v.Ledgers[r.Node]
	return l != nil && (slices.Contains(l.Spent, shortReservation(r.ID)) || slices.ContainsFunc(l.Handed, r.brought))
}

// spent reports whether the reservation was given a task since it began.
func (v *View) spent(r Reservation) bool { return !r.Repeat && v.reserved(r) }

// HandedTask returns the task that this reservation was given before and that is
// not over, or nil.
func (s *Store) HandedTask(ctx context.Context, r Reservation) (*api.Task, error) {
	var id api.TaskID
	s.Read(func(v *View) { id = v.openTask(r) })
	if id == "" {
		return nil, nil
	}
	if err := s.renewClaim(ctx, r, id); err != nil {
		return nil, ignoreTaken(err)
	}
	return s.task(ctx, r.Node, id)
}

// renewClaim makes sure that a start that is handed out again is still the
// reservation's, and will not be taken for lost while it is on its way.
func (s *Store) renewClaim(ctx context.Context, r Reservation, id api.TaskID) error {
	kind, ref, _ := splitTask(id)
	if kind != taskStart {
		return nil
	}
	return s.updateInstance(ctx, api.InstanceID(ref), nil, func(v *View, i *Instance, now time.Time) error {
		return i.renewClaim(v, r, id, now)
	})
}

// renewClaim notes that a start is handed out again, if it is still the
// reservation's.
func (i *Instance) renewClaim(v *View, r Reservation, id api.TaskID, now time.Time) error {
	if i.Ended() || i.TaskID() != id || i.Claim == nil || i.Claim.Reservation != r.ID || i.Claim.Node != r.Node || i.Claim.Done {
		return ErrTaken
	}
	if v.AgeOf(i, now) < settle/3 {
		return errNoChange
	}
	claim := *i.Claim
	claim.Seen = now
	i.Claim = &claim
	return nil
}

func ignoreTaken(err error) error {
	if errors.Is(err, ErrTaken) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// HandOut gives a waiting reservation one of the tasks that only its node can do,
// or returns nil when there is none.
func (s *Store) HandOut(ctx context.Context, r Reservation) (*api.Task, error) {
	var id api.TaskID
	s.Read(func(v *View) { id = v.nextNodeTask(r) })
	if id == "" {
		return nil, nil
	}
	err := s.decide(ctx, func(v *View, now time.Time) (c *Change, certain bool, err error) {
		id, c, certain, err = v.handOut(r, now)
		return c, certain, err
	})
	if err != nil || id == "" {
		return nil, err
	}
	return s.task(ctx, r.Node, id)
}

// handOut returns the most urgent task that only the reservation's node can do,
// "" for none, and the change that makes it the reservation's.
func (v *View) handOut(r Reservation, now time.Time) (id api.TaskID, c *Change, certain bool, err error) {
	node, err := v.session(r)
	if err != nil {
		return "", nil, false, err
	}
	if id = v.nextNodeTask(r); id == "" {
		return "", nil, true, errNoChange
	}
	if v.spent(r) {
		if id = v.openTask(r); id == "" {
			return "", nil, true, ErrSpent
		}
		return id, nil, true, errNoChange // an earlier attempt of ours went through, or another poll's
	}
	c = new(Change)
	c.must(nodeRef(node.ID), node.rev)
	v.hand(c, r, id, now)
	return id, c, false, nil
}

// Claim places a waiting instance on the reservation's node. It returns ErrTaken
// when that is not possible any more.
func (s *Store) Claim(ctx context.Context, r Reservation, id api.InstanceID) (*api.Task, error) {
	var task api.TaskID
	err := s.decide(ctx, func(v *View, now time.Time) (c *Change, certain bool, err error) {
		task, c, certain, err = v.claim(r, id, now)
		return c, certain, err
	})
	if err != nil {
		return nil, err
	}
	return s.task(ctx, r.Node, task)
}

// claim returns the start task of a waiting instance, and the change that places
// the instance on the reservation's node.
func (v *View) claim(r Reservation, id api.InstanceID, now time.Time) (task api.TaskID, c *Change, certain bool, err error) {
	node, err := v.session(r)
	if err != nil {
		return "", nil, false, err
	}
	cur := v.Instances[id]
	if cur == nil {
		return "", nil, true, ErrTaken
	}
	if cur.Claim != nil && cur.Claim.Reservation == r.ID && cur.Claim.Session == r.Session && !cur.Ended() {
		return cur.TaskID(), nil, true, errNoChange // an earlier attempt of ours went through
	}
	if !cur.Pending() || !v.ScheduleNode(node).Fits(v.ScheduleTask(cur), now) {
		return "", nil, true, ErrTaken
	}
	if v.spent(r) {
		return "", nil, true, ErrSpent // another Store answered this reservation
	}
	if v.openTask(r) != "" {
		return "", nil, true, ErrTaken
	}
	next := cur.clone()
	next.Claim = &Claim{Node: r.Node, Session: r.Session, Reservation: r.ID, At: now, Seen: now}
	next.Public.NodeID = r.Node
	next.Public.InflightReqID = r.ID
	next.Public.TS = now
	c = new(Change)
	c.must(instanceRef(id), cur.rev)
	c.must(nodeRef(node.ID), node.rev)
	c.put(instanceRef(id), next)
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

// openTask returns the newest task that the reservation has brought and that is
// not over, or "".
func (v *View) openTask(r Reservation) api.TaskID {
	if l := v.Ledgers[r.Node]; l != nil {
		for _, h := range slices.Backward(l.Handed) {
			if r.brought(h) && v.open(r.Node, h.Task) {
				return h.Task
			}
		}
	}
	return ""
}

// brought reports whether the task was handed out under the reservation.
func (r Reservation) brought(h Handed) bool { return h.Reservation == r.ID && h.Session == r.Session }

const (
	// keptSpent is how many reservations of tasks that are over the ledger
	// keeps; a poll that its sender gave up seldom outlives more.
	keptSpent = 16
	// spentLen is how much of one is kept.
	spentLen = 13
)

func shortReservation(id string) string { return id[:min(len(id), spentLen)] }

// hand adds a hand-out to the node's ledger, and forgets those that are over.
func (v *View) hand(c *Change, r Reservation, id api.TaskID, now time.Time) {
	next, rev := Ledger{}, int64(0)
	if cur := v.Ledgers[r.Node]; cur != nil {
		rev, next.Spent = cur.rev, slices.Clone(cur.Spent)
		for _, h := range cur.Handed {
			if h.Task != id && h.Session == r.Session && v.open(r.Node, h.Task) {
				next.Handed = append(next.Handed, h)
			} else {
				next.Spent = append(next.Spent, shortReservation(h.Reservation))
			}
		}
		next.Spent = next.Spent[max(0, len(next.Spent)-keptSpent):]
	}
	next.Handed = append(next.Handed, Handed{Task: id, Reservation: r.ID, Session: r.Session, At: now})
	c.must(ledgerRef(r.Node), rev)
	c.put(ledgerRef(r.Node), next)
}

// nextNodeTask returns the most urgent task that only the reservation's node can
// do and that has not been handed out in its session.
func (v *View) nextNodeTask(r Reservation) api.TaskID {
	handed := make(map[api.TaskID]bool)
	if l := v.Ledgers[r.Node]; l != nil {
		for _, h := range l.Handed {
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
		v.nodeTasks(r.Node, kind, func(id api.TaskID) {
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
func (v *View) nodeTasks(node api.NodeID, kind api.TaskKind, yield func(api.TaskID)) {
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
			if img := v.Images[i.Image]; img != nil && img.Status == ImagePending && !i.Ended() {
				yield(imageTaskID(i.Image))
			}
		}
	default:
		for id, j := range v.Jobs {
			if j.Kind == kind && v.jobOpen(id, node) {
				yield(jobTaskID(id, node))
			}
		}
	}
}

func restartTaskID(id api.InstanceID, restart string) api.TaskID {
	return api.TaskID(taskRestart + "." + string(id) + "." + restart)
}

// open reports whether a task that was handed to a node is still the node's to do.
func (v *View) open(node api.NodeID, id api.TaskID) bool {
	kind, ref, rest := splitTask(id)
	switch kind {
	case taskStart:
		i := v.Instances[api.InstanceID(ref)]
		return i != nil && i.TaskID() == id && i.Claim != nil && i.Claim.Node == node && !i.Claim.Done && !i.Ended()
	case taskTerminate:
		i := v.Instances[api.InstanceID(ref)]
		return i != nil && i.Public.InstanceState == api.Terminating && i.Claim != nil && i.Claim.Node == node
	case taskRestart:
		i := v.Instances[api.InstanceID(ref)]
		return i != nil && i.Restart != nil && i.Restart.ID == rest && !i.Ended() && i.Claim != nil && i.Claim.Node == node
	case taskImage:
		img := v.Images[ref]
		return img != nil && img.Node == node && img.Status == ImagePending
	case taskJob:
		return rest == string(node) && v.jobOpen(ref, node)
	}
	return false
}

// task returns a task with all that the node needs for it, or nil when it is
// over already.
func (s *Store) task(ctx context.Context, node api.NodeID, id api.TaskID) (t *api.Task, err error) {
	var i *Instance
	s.Read(func(v *View) { t, i = v.task(node, id) })
	if t == nil || t.Start == nil {
		return t, nil
	}
	t.Start.Request, err = s.startRequest(ctx, i)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // ended and forgotten
	}
	if err != nil {
		return nil, fmt.Errorf("read start request of %s: %w", t.InstanceID, err)
	}
	return t, nil
}

// task returns a task with all that the view has of it, or nil when it is over
// already. The start request of i is still to be filled in if there is a Start.
func (v *View) task(node api.NodeID, id api.TaskID) (t *api.Task, i *Instance) {
	kind, ref, _ := splitTask(id)
	i = v.Instances[api.InstanceID(ref)]
	t = &api.Task{ID: id, InstanceID: api.InstanceID(ref), Attempt: 1}
	switch kind {
	case taskStart:
		if i == nil {
			return nil, nil
		}
		t.Kind, t.Attempt = api.TaskStart, i.Attempt
		t.Start = &api.StartTask{Template: i.Template}
	case taskTerminate:
		t.Kind = api.TaskTerminate
		if i != nil {
			t.Attempt = i.Attempt
		}
	case taskRestart:
		if i == nil || i.Restart == nil {
			return nil, nil
		}
		task := i.Restart.Task
		t.Kind, t.Attempt, t.Restart = api.TaskRestart, i.Attempt, &task
	case taskImage:
		return v.imageTask(id, ref), nil
	case taskJob:
		return v.jobTask(id, ref, node), nil
	}
	return t, i
}
