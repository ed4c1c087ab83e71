package cloud

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Group is a node group.
type Group struct {
	api.Group
	rev int64
}

// Members are the nodes of a group, in one record, so that any number of nodes
// join or leave together.
type Members struct {
	Nodes []api.NodeID `json:"nodes"`
	rev   int64
}

// Errors of groups; each carries the name or id in its text.
var (
	ErrNoSuchGroup   = errors.New("No such group") //lint:ignore ST1005 the caller of the API reads it as it is
	ErrNoSuchNode    = errors.New("No such node")  //lint:ignore ST1005 likewise
	ErrGroupExists   = errors.New("a group of this name exists")
	ErrFallbackCycle = errors.New("the fallback groups would form a circle")
)

// CreateGroup adds a group. It is the answer.
func (v *View) CreateGroup(g api.Group) (*Change, bool, error) {
	if v.Groups[g.ID] != nil {
		return nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	c := &Change{Answer: g}
	if err := v.checkGroup(c, &g); err != nil {
		return nil, false, err
	}
	c.Must(GroupRef(g.ID), 0)
	c.Put(GroupRef(g.ID), g)
	return c, false, nil
}

// GroupUpdate changes a group; nil is unchanged, and a Fallback that points to
// an empty id takes the fallback away.
type GroupUpdate struct {
	Name, Description *string
	Fallback          *api.GroupID
}

// UpdateGroup changes a group.
func (v *View) UpdateGroup(id api.GroupID, u GroupUpdate) (*Change, bool, error) {
	cur := v.Groups[id]
	if cur == nil {
		return nil, false, ErrNotFound
	}
	next := cur.Group
	assign(&next.Name, u.Name)
	assign(&next.Description, u.Description)
	if u.Fallback != nil {
		next.FallbackGroupID = u.Fallback
		if *u.Fallback == "" {
			next.FallbackGroupID = nil
		}
	}
	if reflect.DeepEqual(next, cur.Group) {
		return nil, false, ErrNoChange // also when an earlier attempt of ours went through
	}
	c := new(Change)
	if err := v.checkGroup(c, &next); err != nil {
		return nil, false, err
	}
	c.Must(GroupRef(id), cur.rev)
	c.Put(GroupRef(id), next)
	return c, false, nil
}

// noNewGroups requires that no group was made or changed since the view: names
// and fallbacks are checked against all groups, not only against those written.
func (v *View) noNewGroups(c *Change) {
	newest := int64(0)
	for _, g := range v.Groups {
		newest = max(newest, g.rev)
	}
	c.Settle(GroupTable, newest)
}

// checkGroup checks a group that is to be written, and requires in the change
// that what it was checked against stays so.
func (v *View) checkGroup(c *Change, g *api.Group) error {
	v.noNewGroups(c)
	for id, o := range v.Groups {
		if id != g.ID && o.Name == g.Name {
			return refuse(ErrGroupExists, ": %s", g.Name)
		}
	}
	for next, seen := g.FallbackGroupID, map[api.GroupID]bool{g.ID: true}; next != nil; {
		if seen[*next] {
			return ErrFallbackCycle
		}
		seen[*next] = true
		o := v.Groups[*next]
		if o == nil {
			return refuse(ErrNoSuchGroup, " %s", *next)
		}
		c.Must(GroupRef(*next), o.rev)
		next = o.FallbackGroupID
	}
	return nil
}

// DeleteGroup removes a group, its memberships, and what falls back to it. asked
// reports whether an earlier attempt of the same request may have done it.
func (v *View) DeleteGroup(id api.GroupID, asked bool) (*Change, bool, error) {
	cur := v.Groups[id]
	if cur == nil && asked {
		return nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	if cur == nil {
		return nil, false, ErrNotFound
	}
	c := new(Change)
	v.noNewGroups(c)
	c.Must(GroupRef(id), cur.rev)
	c.Delete(GroupRef(id))
	c.Delete(MemberRef(id))
	for other, o := range v.Groups {
		if o.FallbackGroupID != nil && *o.FallbackGroupID == id && other != id {
			next := o.Group
			next.FallbackGroupID = nil
			c.Must(GroupRef(other), o.rev)
			c.Put(GroupRef(other), next)
		}
	}
	if c.TooLarge() {
		return nil, false, fmt.Errorf("more than %d groups fall back to this one: change those first", maxOps)
	}
	return c, false, nil
}

// ChangeMembers adds nodes to groups, or takes them out: all, or none.
func (v *View) ChangeMembers(groups []api.GroupID, nodes []api.NodeID, add bool) (*Change, bool, error) {
	for _, n := range nodes {
		if v.Nodes[n] == nil {
			return nil, false, refuse(ErrNoSuchNode, " %s", n)
		}
	}
	c := new(Change)
	for _, id := range groups {
		g := v.Groups[id]
		if g == nil {
			return nil, false, refuse(ErrNoSuchGroup, " %s", id)
		}
		c.Must(GroupRef(id), g.rev)
		for _, n := range nodes {
			v.changeMember(c, id, n, add)
		}
	}
	return c.seal(v)
}

// changeMember notes a membership in the change; seal writes the records.
func (v *View) changeMember(c *Change, id api.GroupID, n api.NodeID, add bool) {
	if c.members == nil {
		c.members = make(map[api.GroupID][]api.NodeID)
	}
	list, begun := c.members[id]
	if !begun {
		if cur := v.Members[id]; cur != nil {
			list = slices.Clone(cur.Nodes)
		}
	}
	at, found := slices.BinarySearch(list, n)
	switch {
	case add && !found:
		list = slices.Insert(list, at, n)
	case !add && found:
		list = slices.Delete(list, at, at+1)
	}
	c.members[id] = list
}

// seal adds the changed membership records to the change.
func (c *Change) seal(v *View) (*Change, bool, error) {
	for id, list := range c.members {
		rev := int64(0)
		if cur := v.Members[id]; cur != nil {
			if slices.Equal(cur.Nodes, list) {
				continue
			}
			rev = cur.rev
		}
		c.Must(MemberRef(id), rev)
		c.Put(MemberRef(id), Members{Nodes: list})
	}
	switch {
	case c.TooLarge():
		return nil, false, fmt.Errorf("more than %d groups at once", maxOps/2)
	case len(c.Ops) == 0:
		return nil, false, ErrNoChange
	}
	return c, false, nil
}

// joinGroups makes the groups of these names a node's groups.
func (v *View) joinGroups(c *Change, node api.NodeID, names []string) error {
	wanted := make(map[api.GroupID]bool)
	for _, name := range names {
		found := false
		for id, g := range v.Groups {
			if g.Name == name || string(id) == name {
				wanted[id], found = true, true
			}
		}
		if !found {
			return refuse(ErrNoSuchGroup, " %s", name)
		}
	}
	for id := range wanted {
		c.Must(GroupRef(id), v.Groups[id].rev)
		v.changeMember(c, id, node, true)
	}
	for _, id := range v.GroupsOf(node) {
		if !wanted[id] {
			v.changeMember(c, id, node, false)
		}
	}
	_, _, err := c.seal(v)
	return IgnoreNoChange(err)
}

func (v *View) leaveGroups(c *Change, node api.NodeID) {
	for _, id := range v.GroupsOf(node) {
		v.changeMember(c, id, node, false)
	}
	_, _, _ = c.seal(v) // nothing to change is fine, and a node is in few groups
}
