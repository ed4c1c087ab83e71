// Package listing tells what can be asked of the lists of instances, nodes and templates:
// the keys of controllerapi/query, and how to read them of an object. It reads a view and
// decides nothing.
package listing

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/query"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// Instance is an instance with what it is called elsewhere.
type Instance struct {
	*cloud.Instance
	Node, Group string // names, "" for none
}

// InstancesOf returns the instances that lists show, in order of creation.
func InstancesOf(v *cloud.View) []Instance {
	visible := v.Visible()
	out := make([]Instance, len(visible))
	for k, i := range visible {
		out[k].Instance = i
		if n := v.Nodes[i.Public.NodeID]; n != nil {
			out[k].Node = n.Settings.Name
		}
		if g := v.Groups[i.Public.GroupID]; g != nil {
			out[k].Group = g.Name
		}
	}
	return out
}

// PartOfInstances returns the instances that are asked for.
func PartOfInstances(ask query.Ask[Instance], all []Instance, now time.Time) wire.Part {
	page := ask.Page(all, now)
	part := make([]*cloud.Instance, len(page.Rows))
	for k, row := range page.Rows {
		part[k] = row.Instance
	}
	return wire.Part{Body: Encode(part), Total: page.Total, Next: page.Next}
}

// Encode makes a list of instances, each of which keeps its encoding until it changes.
func Encode(all []*cloud.Instance) wire.Encoded {
	size := 0
	for _, i := range all {
		size += len(i.ListedJSON()) + 1
	}
	list := wire.NewList(size)
	for _, i := range all {
		list.AddEncoded(i.ListedJSON())
	}
	return list.Answer()
}

// text returns the values that are not empty.
func text(values ...string) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		if v != "" {
			out = append(out, v)
		}
	}
	return out
}

func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// Instances is what can be asked of instances. Without sort they are in order of creation.
var Instances = query.Schema[Instance]{
	ID: func(i *Instance) string { return string(i.Public.InstanceID) },
	Words: func(i *Instance) []string {
		return []string{i.Public.Name, string(i.Public.InstanceID), i.Public.ExternalID, i.Node, string(i.Public.NodeID), i.Template.Name, string(i.Public.VMID), i.Public.Tag}
	},
	Default: query.Field[Instance]{Number: func(i *Instance) (float64, bool) { return float64(i.Created), true }},
	Fields: []query.Field[Instance]{
		{Name: "state", Text: func(i *Instance, _ string) []string { return text(string(i.Public.InstanceState)) },
			Only: []string{string(api.Scheduling), string(api.Pulling), string(api.Started), string(api.Stopping), string(api.Stopped),
				string(api.Pushing), string(api.Error), string(api.Terminating), string(api.Terminated)}},
		{Name: "name", Text: func(i *Instance, _ string) []string { return text(i.Public.Name) }},
		{Name: "id", Text: func(i *Instance, _ string) []string { return text(string(i.Public.InstanceID)) }},
		{Name: "ext", Text: func(i *Instance, _ string) []string { return text(i.Public.ExternalID) }},
		{Name: "node", Text: func(i *Instance, _ string) []string { return text(i.Node, string(i.Public.NodeID)) }},
		{Name: "group", Text: func(i *Instance, _ string) []string { return text(i.Group, string(i.Public.GroupID)) }},
		{Name: "template", Text: func(i *Instance, _ string) []string { return text(i.Template.Name, string(i.Public.VMID)) }},
		{Name: "tag", Text: func(i *Instance, _ string) []string { return text(i.Public.Tag) }},
		{Name: "arch", Text: func(i *Instance, _ string) []string { return text(i.Public.Arch) }},
		{Name: "usb", Text: func(i *Instance, _ string) []string { return text(i.Public.USBDevice) }},
		{Name: "age", Since: func(i *Instance) time.Time { return i.Public.CRTime }},
		{Name: "priority", Number: func(i *Instance) (float64, bool) { return float64(i.Priority), true }},
		{Name: "meta.", Text: func(i *Instance, key string) []string {
			switch v := i.Public.Metadata[key].(type) {
			case nil:
				return nil
			case string:
				return []string{v}
			case bool:
				return []string{strconv.FormatBool(v)}
			case json.Number:
				return []string{v.String()}
			default:
				return []string{fmt.Sprint(v)}
			}
		}},
	},
}

// Nodes is what can be asked of nodes. Without sort they are in order of their ids.
var Nodes = query.Schema[api.Node]{
	ID: func(n *api.Node) string { return string(n.NodeID) },
	Words: func(n *api.Node) []string {
		words := []string{n.NodeName, string(n.NodeID), n.IPAddress}
		for _, g := range n.Groups {
			words = append(words, g.Name)
		}
		return words
	},
	Fields: []query.Field[api.Node]{
		// A state of two words can be written by the first: Inactive, Drain.
		{Name: "state", Text: func(n *api.Node, _ string) []string { return []string{firstWord(n.State)} },
			Only: []string{firstWord(api.NodeActive), firstWord(api.NodeOffline), firstWord(api.NodeInactive), firstWord(api.NodeUpdating),
				firstWord(api.NodeUnhealthy), firstWord(api.NodeDrain)}},
		{Name: "name", Text: func(n *api.Node, _ string) []string { return text(n.NodeName) }},
		{Name: "id", Text: func(n *api.Node, _ string) []string { return text(string(n.NodeID)) }},
		{Name: "host", Text: func(n *api.Node, _ string) []string { return text(n.IPAddress) }},
		{Name: "group", Text: func(n *api.Node, _ string) []string {
			var out []string
			for _, g := range n.Groups {
				out = append(out, g.Name, string(g.ID))
			}
			return out
		}},
		{Name: "template", Text: func(n *api.Node, _ string) []string {
			var out []string
			for _, t := range n.Templates {
				out = append(out, t.Name, string(t.UUID), t.Name+":"+t.Tag)
			}
			return text(out...)
		}},
		{Name: "usb", Text: func(n *api.Node, _ string) []string {
			var out []string
			for _, d := range n.USBDevices {
				out = append(out, d.Group)
			}
			return text(out...)
		}},
		{Name: "arch", Text: func(n *api.Node, _ string) []string { return text(n.HostArch) }},
		{Name: "agent", Text: func(n *api.Node, _ string) []string { return text(n.AgentVersion) }},
		{Name: "anka", Text: func(n *api.Node, _ string) []string { return text(n.AnkaVersion.Version) }},
		{Name: "ram", Number: func(n *api.Node) (float64, bool) { return float64(n.RAM) * (1 << 30), true }},
		{Name: "disk", Number: func(n *api.Node) (float64, bool) { return float64(n.DiskSize), true }},
		{Name: "free", Number: func(n *api.Node) (float64, bool) { return float64(n.FreeDiskSpace), true }},
		{Name: "cpu", Number: func(n *api.Node) (float64, bool) { return float64(n.CPUCount), true }},
		{Name: "vms", Number: func(n *api.Node) (float64, bool) { return float64(n.VMCount), true }},
		{Name: "age", Since: func(n *api.Node) time.Time { return n.LastUpdated }},
	},
}

func firstWord(s api.NodeState) string {
	word, _, _ := strings.Cut(string(s), " ")
	return word
}

// Templates is what can be asked of templates. Without sort they are in order of their
// names.
var Templates = query.Schema[registryapi.Template]{
	ID:      func(t *registryapi.Template) string { return t.ID },
	Words:   func(t *registryapi.Template) []string { return []string{t.Name, t.ID} },
	Default: templateName,
	Fields: []query.Field[registryapi.Template]{
		templateName,
		{Name: "id", Text: func(t *registryapi.Template, _ string) []string { return text(t.ID) }},
		{Name: "arch", Text: func(t *registryapi.Template, _ string) []string { return text(t.Arch) }},
		{Name: "size", Number: func(t *registryapi.Template) (float64, bool) { return float64(t.Size), true }},
		{Name: "age", Since: func(t *registryapi.Template) time.Time { return unix(t.LastPush) }},
		{Name: "pulled", Since: func(t *registryapi.Template) time.Time { return unix(t.LastPull) }},
	},
}

var templateName = query.Field[registryapi.Template]{Name: "name", Text: func(t *registryapi.Template, _ string) []string { return text(t.Name) }}

// PartOfTemplates returns the templates that are asked for, as values, never nil.
func PartOfTemplates(ask query.Ask[registryapi.Template], all []registryapi.Template, now time.Time) (part []registryapi.Template, total int, next string) {
	page := ask.Page(all, now)
	part = make([]registryapi.Template, 0, len(page.Rows))
	for _, t := range page.Rows {
		part = append(part, *t)
	}
	return part, page.Total, page.Next
}

// QuickTemplate is an element of the list without sizes.
type QuickTemplate struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Quick returns the list without sizes.
func Quick(list []registryapi.Template) []QuickTemplate {
	out := make([]QuickTemplate, 0, len(list))
	for _, t := range list {
		out = append(out, QuickTemplate{ID: t.ID, Name: t.Name})
	}
	return out
}
