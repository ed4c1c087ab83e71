package access

import "iter"

// Permission is what a caller needs for a call. The zero value is no permission:
// a route that has it is refused when the table is built.
type Permission uint8

// Permissions that no permission group holds: they follow from what the caller is.
const (
	_ Permission = iota
	// Public needs no credential: probes, and what a client reads before it has one.
	Public
	// Authenticated needs a good credential and nothing more.
	Authenticated
	// Node is for an agent that acts for its node.
	Node
	// Registry is for another registry: a replica, or a host of the same cluster.
	Registry
	// Owner is for the user whose process serves it.
	Owner

	// The controller's.

	ListVMs
	StartVM
	UpdateVM
	TerminateVM
	ListNodes
	DeleteNode
	ChangeNodeConfig
	DeleteTemplateFromNodes
	Distribute
	DistributeStatus
	AddNodeToGroup
	RemoveNodeFromGroup
	CreateGroup
	GetGroups
	UpdateGroup
	DeleteGroup
	SaveImage
	ListImages
	PassthroughList
	PassthroughDelete
	PassthroughDiskInfo
	ChangeConfig
	MACAddress

	// The registry's.

	RegistryIndex
	RegistryDiskInfo
	RegistryListVMs
	RegistryPullVM
	RegistryDownloadVM
	RegistryPushVM
	RegistryDeleteVM
	RegistryRevert
	RegistryUploadFile
	RegistryDownloadFile
	RegistryStreamLog
	RegistryLogArchive
	RegistrySendLog
	RegistrySendLogEvent

	permissions // how many there are
)

// Component is the server that a permission is of. Each has groups of its own.
type Component string

// The components. Permissions that no group holds have none.
const (
	OfController Component = "controller"
	OfRegistry   Component = "registry"
)

// known are the names of the permissions: the keys that the original documents,
// where it has one. A new permission is a constant in its component's block, a line
// here, and a place where it is asked for: a route (controllerapi/server/handler.go,
// registryapi/server/{handler,oci}.go, registryapi/cluster/peers.go, agent/node), or a
// kind of change (controllerapi/server/viewchanges.go).
var known = [permissions]struct {
	component Component
	key       string
}{
	Public:        {"", "public"},
	Authenticated: {"", "authenticated"},
	Node:          {"", "node"},
	Registry:      {"", "registry"},
	Owner:         {"", "owner"},

	ListVMs:                 {OfController, "list_vms"},
	StartVM:                 {OfController, "start_vm"},
	UpdateVM:                {OfController, "update_vm"},
	TerminateVM:             {OfController, "terminate_vm"},
	ListNodes:               {OfController, "list_nodes"},
	DeleteNode:              {OfController, "delete_node"},
	ChangeNodeConfig:        {OfController, "change_node_config"},
	DeleteTemplateFromNodes: {OfController, "delete_template_from_nodes"},
	Distribute:              {OfController, "registry_distribute"},
	DistributeStatus:        {OfController, "registry_distribute_status"},
	AddNodeToGroup:          {OfController, "add_node_to_group"},
	RemoveNodeFromGroup:     {OfController, "remove_group_from_node"},
	CreateGroup:             {OfController, "create_group"},
	GetGroups:               {OfController, "get_groups"},
	UpdateGroup:             {OfController, "update_group"},
	DeleteGroup:             {OfController, "delete_group"},
	SaveImage:               {OfController, "save_image"},
	ListImages:              {OfController, "list_images"},
	PassthroughList:         {OfController, "registry_list"},
	PassthroughDelete:       {OfController, "registry_delete"},
	PassthroughDiskInfo:     {OfController, "get_registry_disk_info"},
	ChangeConfig:            {OfController, "change_config"},
	MACAddress:              {OfController, "mac_address"},

	RegistryIndex:        {OfRegistry, "index"},
	RegistryDiskInfo:     {OfRegistry, "get_disk_info"},
	RegistryListVMs:      {OfRegistry, "list_vms"},
	RegistryPullVM:       {OfRegistry, "pull_vm"},
	RegistryDownloadVM:   {OfRegistry, "download_vm"},
	RegistryPushVM:       {OfRegistry, "push_vm"},
	RegistryDeleteVM:     {OfRegistry, "delete_vm"},
	RegistryRevert:       {OfRegistry, "revert"},
	RegistryUploadFile:   {OfRegistry, "upload_file"},
	RegistryDownloadFile: {OfRegistry, "download_file"},
	RegistryStreamLog:    {OfRegistry, "stream_log"},
	RegistryLogArchive:   {OfRegistry, "get_log_archive"},
	RegistrySendLog:      {OfRegistry, "send_log"},
	RegistrySendLogEvent: {OfRegistry, "send_log_event"},
}

// Known reports whether p is one of the permissions of this package.
func (p Permission) Known() bool { return p > 0 && p < permissions }

// Component returns the server that p is of, "" for those that no group holds.
func (p Permission) Component() Component {
	if !p.Known() {
		return ""
	}
	return known[p].component
}

// String returns the key by which groups name p.
func (p Permission) String() string {
	if !p.Known() {
		return "none"
	}
	return known[p].key
}

// All returns every permission.
func All() iter.Seq[Permission] {
	return func(yield func(Permission) bool) {
		for p := Public; p < permissions; p++ {
			if !yield(p) {
				return
			}
		}
	}
}
