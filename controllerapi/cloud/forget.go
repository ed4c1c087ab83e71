package cloud

import (
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// FenceTick is how often the fence moves. A creation that was sent before a
// move fails after it.
const FenceTick = 20 * time.Second

// buriedFor is how long the record of an instance that has left the lists is
// kept: longer than a creation that arrives late can be late.
const buriedFor = 3 * FenceTick

// unconfirmedFor is how long the record of an instance whose node never
// confirmed its end is kept, so that its VM is removed when the node returns.
const unconfirmedFor = 24 * time.Hour

// RestartLimit is how long a restart may take: a forced stop and a few
// attempts to start, each of which has a limit at the node.
const RestartLimit = 30 * time.Minute

// Forgettable reports whether the record of an ended instance has done its duty.
// A creation that is still on its way fails once the fence has moved since the
// burial.
func (v *View) Forgettable(i *Instance, now time.Time) bool {
	if i.Deleted == nil || v.FenceRev <= i.Rev {
		return false
	}
	if i.Public.InstanceState == api.Terminated {
		return v.AgeOf(i, now) >= buriedFor
	}
	return v.AgeOf(i, now) >= unconfirmedFor
}

// Forget deletes the record of an ended instance, and the start request if it is
// the last of it.
func (v *View) Forget(id api.InstanceID, now time.Time) (*Change, bool, error) {
	i := v.Instances[id]
	if i == nil || !v.Forgettable(i, now) || v.LargeStarts[i.Request] != nil {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	c.Must(InstanceRef(id), i.Rev)
	c.Delete(InstanceRef(id))
	last := true
	for other, o := range v.Instances {
		if other != id && o.Request == i.Request {
			last = false
			break
		}
	}
	if last {
		c.Delete(RequestRef(i.Request))
	}
	// Also of an instance that ended while they were stored.
	c.Delete(OutputRef(string(id), "stdout"))
	c.Delete(OutputRef(string(id), "stderr"))
	if addr := i.Public.MACAddress; v.MACs[addr] != nil && v.MACs[addr].Instance == id {
		c.Delete(MACRef(addr))
	}
	return c, false, nil
}

// RestartOverdue reports whether a restart has taken too long.
func (v *View) RestartOverdue(i *Instance, now time.Time) bool {
	return i.Restart != nil && !i.Ended() && v.Age(orRev(i.Restart.Rev, i.Rev), now) > RestartLimit
}
