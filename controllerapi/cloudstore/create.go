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
	// MaxAtOnce is how many instances are made in one transaction: each takes a key,
	// and one for its address.
	MaxAtOnce = maxOps/2 - 3
)

// StartRequestRecord is one start request with all that its instances have in common.
type StartRequestRecord struct {
	ID      string           `json:"id"` // chosen by the caller, never used before
	Request api.StartRequest `json:"request"`
}

// LargeStart is a start request that takes several transactions. Once it is
// written, all of its instances will be there: if its Store dies, the keeper
// makes the rest.
type LargeStart struct {
	Instances []*Instance `json:"instances"`
	MAC       string      `json:"mac,omitempty"`
	Rev       int64       `json:"-"`
}

// Create adds instances that share a start request, all or none. answer is what
// the request's sender will be told.
func (s *Store) Create(ctx context.Context, batch StartRequestRecord, instances []*Instance, answer any) error {
	if len(instances) == 0 || len(instances) > MaxCount {
		return fmt.Errorf("%d instances in a batch: from 1 to %d are possible", len(instances), MaxCount)
	}
	large := len(instances) > MaxAtOnce
	for _, i := range instances {
		i.Batch, i.Attempt = batch.ID, 1
	}
	err := s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.CreateInstances(batch, instances, answer, s.macs())
	})
	if err != nil || !large {
		return err
	}
	// From here on all of it will be there, whoever waits for the answer.
	return s.expand(context.WithoutCancel(ctx), batch.ID)
}

// CreateInstances adds instances that share a start request, or notes those of a
// large one, so that all of them will be made.
func (v *View) CreateInstances(batch StartRequestRecord, instances []*Instance, answer any, macs MACSource) (*Change, bool, error) {
	if v.Instances[instances[0].Public.InstanceID] != nil || v.LargeStarts[batch.ID] != nil {
		return nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	c := &Change{Answer: answer}
	// A creation that sat in the buffers of a paused member could otherwise
	// bring an instance back that has ended and been forgotten meanwhile.
	c.Must(FenceRef, v.FenceRev)
	c.Put(RequestRef(batch.ID), batch.Request)
	if len(instances) > MaxAtOnce {
		c.Must(LargeStartRef(batch.ID), 0)
		c.Put(LargeStartRef(batch.ID), LargeStart{Instances: instances, MAC: batch.Request.MACAddress})
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
		c.Must(InstanceRef(i.Public.InstanceID), 0)
		c.Put(InstanceRef(i.Public.InstanceID), i)
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
			c, done, err = v.Expand(id, s.macs())
			return c, errors.Is(err, ErrNoChange), err
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

// Expand makes instances of a large batch that are not there yet, and reports
// whether there will be none left.
func (v *View) Expand(id string, macs MACSource) (c *Change, done bool, err error) {
	b := v.LargeStarts[id]
	if b == nil {
		return nil, true, ErrNoChange
	}
	var rest []*Instance
	for _, i := range b.Instances {
		if v.Instances[i.Public.InstanceID] == nil {
			rest = append(rest, i.clone())
		}
	}
	c = new(Change)
	c.Must(LargeStartRef(id), b.Rev)
	if done = len(rest) <= MaxAtOnce; done {
		c.Delete(LargeStartRef(id))
	} else {
		rest = rest[:MaxAtOnce]
	}
	return c, done, v.create(c, rest, b.MAC, macs)
}

// finishStarts finishes what a Store that died has begun.
func (s *Store) finishStarts(ctx context.Context) {
	var open []string
	s.Read(func(v *View) {
		for id, b := range v.LargeStarts {
			if len(b.Instances) > 0 && v.Age(b.Rev, s.now()) > s.cfg.RequestTimeout {
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
