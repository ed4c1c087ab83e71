package cloudstore

import (
	"fmt"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"go.etcd.io/etcd/client/v3"
)

// model is what the cache of a Store holds.
type model struct{ s *Store }

func (m model) New() *cloud.View { return cloud.NewView() }

func (m model) Apply(v *cloud.View, ev *clientv3.Event, ch *cloud.Changes) error {
	return apply(v, ev, ch)
}

// Loaded refuses the state of another cloud, and makes what is kept beside the
// records.
func (m model) Loaded(v *cloud.View, ch *cloud.Changes) error {
	if known := m.s.CloudID(); known != "" && (v.Meta == nil || v.Meta.CloudID != known) {
		return fmt.Errorf("etcd does not hold the cloud %s any more: restore a snapshot, or restart the controllers to begin a new cloud", known)
	}
	v.Sort()
	ch.Queue, ch.Cluster = true, true
	ch.Loaded, ch.Told = true, nil
	for id := range v.Nodes {
		ch.Node(id)
	}
	return nil
}

func (m model) Replace(v, old *cloud.View, _ uint64, same bool, ch *cloud.Changes) {
	for id := range old.Nodes {
		ch.Node(id)
	}
	if !same {
		m.s.ages.Reset()
	}
	v.Ages = m.s.ages
}

func (m model) Advance(v *cloud.View, rev int64, ch *cloud.Changes) {
	v.Rev, ch.Rev = rev, rev
	now := m.s.now()
	m.s.ages.Adopt(ch.Fence, ch.FenceRev, now)
	m.s.ages.Note(rev, now)
}

func (m model) Changed(ch *cloud.Changes) {
	if ch.Cluster {
		m.s.announce.wake()
	}
	for id := range ch.Nodes {
		if m.s.node(id) == nil {
			m.s.nodes.renewed.Delete(id)
		}
	}
	if m.s.OnChange != nil {
		m.s.OnChange(*ch)
	}
}
