package clouds

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/wire"
)

const (
	// silence ends a stream: its controller hangs, or the path to it is cut. One that
	// has nothing to tell beats every 15 s.
	silence = 20 * time.Second
	// pollEvery is how often a controller without streams is asked.
	pollEvery = time.Second
)

// ErrSilent: a stream has said nothing for longer than it may.
var ErrSilent = errors.New("the controller says nothing any more")

var pace = backoff.Pace{Min: 100 * time.Millisecond, Max: 2 * time.Second}

// VMs yields all instances by id, at once and after every change, until ctx ends. What
// goes wrong meanwhile is yielded as an error; the loop goes on at another controller
// for as long as its body does, but for ErrUnauthorized, which is the end. A map that
// was yielded is not changed.
func (c *Cloud) VMs(ctx context.Context) iter.Seq2[map[controllerapi.InstanceID]controllerapi.Instance, error] {
	return follow(ctx, c, controllerapi.KindVM,
		func(vm controllerapi.ListedInstance) controllerapi.Instance { return vm.VM },
		func(vm controllerapi.Instance) controllerapi.InstanceID { return vm.InstanceID }, c.Instances)
}

// FollowNodes is VMs for nodes.
func (c *Cloud) FollowNodes(ctx context.Context) iter.Seq2[map[controllerapi.NodeID]controllerapi.Node, error] {
	return follow(ctx, c, controllerapi.KindNode,
		func(n controllerapi.Node) controllerapi.Node { return n },
		func(n controllerapi.Node) controllerapi.NodeID { return n.NodeID }, c.Nodes)
}

// follow yields the objects of a kind. of takes an object out of its listing L.
func follow[K ~string, T, L any](ctx context.Context, c *Cloud, kind controllerapi.Kind, of func(L) T, id func(T) K, list func(context.Context) ([]L, error)) iter.Seq2[map[K]T, error] {
	return func(yield func(map[K]T, error) bool) {
		s := stream[K, T, L]{cloud: c, kind: kind, of: of}
		for failures := 0; ctx.Err() == nil; failures++ {
			before := s.since
			err := s.read(ctx, func() bool { return yield(maps.Clone(s.known), nil) })
			if s.since != before {
				failures = 0
			}
			switch {
			case errors.Is(err, errEnough), ctx.Err() != nil:
				return
			case errors.Is(err, wire.CodeNoSuchCall): // a controller from before streams
				all, err := list(ctx)
				known := make(map[K]T, len(all))
				for _, l := range all {
					known[id(of(l))] = of(l)
				}
				if ctx.Err() != nil || !yield(known, err) || !backoff.Sleep(ctx, pollEvery) {
					return
				}
				continue
			case errors.Is(err, wire.CodeBadRequest): // a cloud that was put back to a backup
				s.since = 0
			case err != nil && !yield(nil, err), errors.Is(err, controllerapi.ErrUnauthorized):
				return
			}
			if !pace.Wait(ctx, failures) {
				return
			}
		}
	}
}

// errEnough: the reader of a stream wants no more.
var errEnough = errors.New("enough")

// stream is what was told of a kind, up to a revision.
type stream[K ~string, T, L any] struct {
	cloud *Cloud
	kind  controllerapi.Kind
	of    func(L) T
	known map[K]T
	since int64
}

// read reads one stream to its end, and calls changed after each revision; it returns
// nil where the controller ended the stream to be asked again.
func (s *stream[K, T, L]) read(ctx context.Context, changed func() bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(silence, func() { cancel(ErrSilent) })
	defer alarm.Stop()
	var parts map[K]T // of a snapshot that is on its way
	for event, err := range s.cloud.Watch(ctx, s.since, s.kind) {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		alarm.Reset(silence)
		to := s.known
		if event.Snapshot {
			if parts == nil {
				parts = make(map[K]T)
			}
			to = parts
		}
		if err := s.apply(to, event.Changes); err != nil {
			return err
		}
		if event.Snapshot && event.Revision != 0 {
			s.known, parts = parts, nil
		}
		if event.Revision != 0 {
			s.since = event.Revision
		}
		if event.End == controllerapi.EndedDenied {
			return controllerapi.ErrUnauthorized
		}
		if event.Revision != 0 && (event.Snapshot || len(event.Changes) > 0) && !changed() {
			return errEnough
		}
	}
	return nil
}

func (s *stream[K, T, L]) apply(to map[K]T, changes []controllerapi.Change) error {
	for _, change := range changes {
		if change.Gone {
			delete(to, K(change.ID))
			continue
		}
		var object L
		if err := json.Unmarshal(change.Object, &object); err != nil {
			return err
		}
		to[K(change.ID)] = s.of(object)
	}
	return nil
}
