package cloud

import (
	"encoding/json"
	"sync/atomic"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// lazyJSON is an encoding that is made when it is first asked for.
type lazyJSON struct{ data atomic.Pointer[[]byte] }

// ListedJSON returns the instance as an element of the instance list. The
// caller must not change it.
func (i *Instance) ListedJSON() []byte {
	if p := i.listed.data.Load(); p != nil {
		return *p
	}
	data, err := json.Marshal(i.Listed())
	if err != nil {
		panic("cloud: an instance that was decoded does not encode: " + err.Error())
	}
	i.listed.data.Store(&data)
	return data
}

// Listed returns the instance as an element of the instance list.
func (i *Instance) Listed() api.ListedInstance {
	l := api.ListedInstance{InstanceID: i.Public.InstanceID, VM: i.Public}
	if i.Public.ExternalID != "" {
		l.ExternalID = &i.Public.ExternalID
	}
	if i.Public.Name != "" {
		l.Name = &i.Public.Name
	}
	return l
}
