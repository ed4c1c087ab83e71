package cloud

import (
	api "github.com/ankacluster/ankacluster/controllerapi"
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
// written, all of its instances will be there: if the process that began it dies, the keeper
// makes the rest.
type LargeStart struct {
	Instances []*Instance `json:"instances"`
	MAC       string      `json:"mac,omitempty"`
	Rev       int64       `json:"-"`
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

// Expand makes instances of a large start that are not there yet, and reports
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
