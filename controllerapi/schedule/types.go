package schedule

import (
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
)

// Capacity modes of a node.
const (
	ByNumber   = capacity.ByNumber
	ByResource = capacity.ByResource
)

// Image is a template tag.
type Image struct{ Template, Tag string }

// Node is what placement needs to know of a node.
type Node struct {
	ID        string
	Accepting bool // alive, licensed, not draining
	Arch      string
	Mode      string // ByNumber or ByResource
	Total     Size
	Used      Size
	Groups    []string
	Images    map[Image]bool
	USB       map[string]int // free devices by group
}

// Size is an amount of capacity, or of what a VM needs.
type Size struct {
	VMs  int
	VCPU int
	RAM  int // MB
}

// Add returns s and t together.
func (s Size) Add(t Size) Size { return Size{s.VMs + t.VMs, s.VCPU + t.VCPU, s.RAM + t.RAM} }

// Task is a VM start that waits for a node.
type Task struct {
	ID       string
	Priority int       // 1 to 10000, lower is more urgent
	Created  time.Time // by the clock of who schedules
	Order    int64     // of creation, among tasks that are due at the same time
	Image    Image
	Arch     string // "" fits every node
	Node     string // the only node that may take it, "" for any
	// Groups may take it: the asked one first, then its fallbacks in order. Empty
	// means any node.
	Groups []string
	USB    string // device group, "" for none
	Need   Size
	// Avoid are nodes that handed the task back, with the time until which they
	// are not asked again.
	Avoid map[string]time.Time
}
