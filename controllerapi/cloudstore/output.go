package cloudstore

import (
	"context"
	"errors"
	"fmt"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
)

const (
	// keptOutput is how much is kept of each output of a script: the end of it.
	keptOutput = 1 << 20
)

// storeOutput keeps the outputs of a report that records do not hold, before the
// record says so of id. Repeating it is no error. Those of a task that is
// not the node's any more are not kept: nobody would read them, or in another's
// place. Without the record nothing is kept: who forgot it has also forgotten them.
func (s *Store) storeOutput(ctx context.Context, req *api.ReportRequest, record cloud.Ref, id string) error {
	r := req.Script
	if r == nil {
		return nil
	}
	if _, long := cloud.Shorten(r); !long {
		return nil
	}
	open, err := s.isOpen(ctx, req.NodeID, req.TaskID)
	if err != nil || !open {
		return err
	}
	for which, text := range map[string]string{"stdout": r.Stdout, "stderr": r.Stderr} {
		t := new(etcdkit.Txn)
		t.MustExist(key(record))
		t.PutText(key(cloud.OutputRef(id, which)), cloud.Tail(text, keptOutput))
		_, err := s.kit.Commit(etcdkit.WithoutIdem(ctx), t)
		if errors.Is(err, etcdkit.ErrConflict) {
			return nil // there is no record
		}
		if err != nil {
			return fmt.Errorf("store %s of %s: %w", which, id, err)
		}
	}
	return nil
}

// isOpen reports whether a task is the node's to do. Its word against it is from a
// fresh view.
func (s *Store) isOpen(ctx context.Context, node api.NodeID, task api.TaskID) (open bool, err error) {
	look := func(v *cloud.View) { open = v.Open(node, task, s.now()) }
	if s.Read(look); open {
		return true, nil
	}
	if err := s.Fresh(ctx); err != nil {
		return false, err
	}
	s.Read(look)
	return open, nil
}

// FullOutput returns the result with all that is kept of its outputs.
func (s *Store) FullOutput(ctx context.Context, id string, r *api.ScriptResult) (*api.ScriptResult, error) {
	if r == nil {
		return nil, nil
	}
	out := *r
	for which, text := range map[string]*string{"stdout": &out.Stdout, "stderr": &out.Stderr} {
		kv, err := s.kit.Get(ctx, key(cloud.OutputRef(id, which)))
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", which, id, err)
		}
		if kv != nil {
			*text = string(kv.Value)
		}
	}
	return &out, nil
}
