package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.uber.org/zap"
)

const (
	// MaxCount is the largest number of instances of one start request. Their
	// records together must fit into one value of etcd.
	MaxCount = 1000
	// chunk is how many instances are made in one transaction: each takes a key,
	// and one for its address.
	chunk = maxOps/2 - 3
)

// Batch is one start request with all that its instances have in common.
type Batch struct {
	ID      string           `json:"id"` // chosen by the caller, never used before
	Request api.StartRequest `json:"request"`
}

// largeBatch is a start request that takes several transactions. Once it is
// written, all of its instances will be there: if its Store dies, the keeper
// makes the rest.
type largeBatch struct {
	Instances []*Instance `json:"instances"`
	MAC       string      `json:"mac,omitempty"`
	rev       int64
}

// Create adds instances that share a start request, all or none. answer is what
// the request's sender will be told.
func (s *Store) Create(ctx context.Context, batch Batch, instances []*Instance, answer any) error {
	if len(instances) == 0 || len(instances) > MaxCount {
		return fmt.Errorf("%d instances in a batch: from 1 to %d are possible", len(instances), MaxCount)
	}
	large := len(instances) > chunk
	for _, i := range instances {
		i.Batch, i.Attempt = batch.ID, 1
	}
	err := s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.createInstances(batch, instances, answer, s.macs())
	})
	if err != nil || !large {
		return err
	}
	// From here on all of it will be there, whoever waits for the answer.
	return s.expand(context.WithoutCancel(ctx), batch.ID)
}

// createInstances adds instances that share a start request, or notes those of a
// large one, so that all of them will be made.
func (v *View) createInstances(batch Batch, instances []*Instance, answer any, macs MACSource) (*Change, bool, error) {
	if v.Instances[instances[0].Public.InstanceID] != nil || v.batches[batch.ID] != nil {
		return nil, true, errNoChange // an earlier attempt of ours went through
	}
	c := &Change{Answer: answer}
	// A creation that sat in the buffers of a paused member could otherwise
	// bring an instance back that has ended and been forgotten meanwhile.
	c.must(clockRef, v.clock)
	c.put(requestRef(batch.ID), batch.Request)
	if len(instances) > chunk {
		c.must(batchRef(batch.ID), 0)
		c.put(batchRef(batch.ID), largeBatch{Instances: instances, MAC: batch.Request.MACAddress})
		return c, false, v.roomForMACs(macs.Range, len(instances))
	}
	return c, false, v.create(c, instances, batch.Request.MACAddress, macs)
}

// create adds instances to the change.
func (v *View) create(c *Change, instances []*Instance, mac string, macs MACSource) error {
	if err := v.assignMACs(c, macs, instances, mac); err != nil {
		return err
	}
	for _, i := range instances {
		c.must(instanceRef(i.Public.InstanceID), 0)
		c.put(instanceRef(i.Public.InstanceID), i)
	}
	return nil
}

// expand makes the instances of a large batch that are not there yet.
func (s *Store) expand(ctx context.Context, id string) error {
	ctx = withoutIdem(ctx)
	if err := s.Fresh(ctx); err != nil {
		return err
	}
	for done := false; !done; {
		err := s.decide(ctx, func(v *View, _ time.Time) (*Change, bool, error) {
			var c *Change
			var err error
			c, done, err = v.expand(id, s.macs())
			return c, errors.Is(err, errNoChange), err
		})
		if err != nil {
			return fmt.Errorf("make the instances of batch %s: %w", id, err)
		}
		if !done {
			if err := s.Fresh(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// macs is what addresses are given from.
func (s *Store) macs() MACSource { return MACSource{s.cfg.MACRange, s.cfg.MACTries} }

// expand makes instances of a large batch that are not there yet, and reports
// whether there will be none left.
func (v *View) expand(id string, macs MACSource) (c *Change, done bool, err error) {
	b := v.batches[id]
	if b == nil {
		return nil, true, errNoChange
	}
	var rest []*Instance
	for _, i := range b.Instances {
		if v.Instances[i.Public.InstanceID] == nil {
			rest = append(rest, i.clone())
		}
	}
	c = new(Change)
	c.must(batchRef(id), b.rev)
	if done = len(rest) <= chunk; done {
		c.delete(batchRef(id))
	} else {
		rest = rest[:chunk]
	}
	return c, done, v.create(c, rest, b.MAC, macs)
}

// keepBatches finishes what a Store that died has begun.
func (s *Store) keepBatches(ctx context.Context) {
	var open []string
	s.Read(func(v *View) {
		for id, b := range v.batches {
			if len(b.Instances) > 0 && v.age(b.rev, s.now()) > s.cfg.RequestTimeout {
				open = append(open, id)
			}
		}
	})
	for _, id := range open {
		if err := s.expand(ctx, id); err != nil {
			s.log.Warn("batch not finished yet", zap.String("batch", id), zap.Error(err))
		}
	}
}
