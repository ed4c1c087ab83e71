package controllerapi

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// PathWhy answers why an instance waits (GET ?id=), and whether one would (POST with a
// StartRequest, which starts nothing); see Why.
const PathWhy = "/api/v1/vm/why"

// WhyCause is the one thing that an instance waits for. More words may come.
type WhyCause string

// Causes. Those of a rule have the rule's name.
const (
	CausePlaced   WhyCause = "placed"    // it does not wait: it has a node, or has ended
	CauseFits     WhyCause = "fits"      // a node can take it now; one should within moments
	CauseQueue    WhyCause = "queue"     // starts that go before it take what is free
	CauseStore    WhyCause = "etcd"      // no start is taken: etcd takes no writes
	CauseNoNodes  WhyCause = "no_nodes"  // the cloud has none
	CauseInactive WhyCause = "accepting" // of the nodes that are left, none takes starts
	CausePinned   WhyCause = "node"      // the node that it asks for is not there
	CauseArch     WhyCause = "arch"      // no node has the template's architecture
	CauseGroup    WhyCause = "group"     // no node is in the group or its fallbacks
	CauseUSB      WhyCause = "usb"       // no node has a device of the USB group
	CauseTooLarge WhyCause = "size"      // it is larger than each node is when empty
	CauseAvoided  WhyCause = "avoided"   // each node handed it back a moment ago
	CauseFull     WhyCause = "room"      // each node is full
	CauseUSBBusy  WhyCause = "usb_busy"  // each device of the USB group is in use
	CauseFallback WhyCause = "fallback"  // a group that goes before has room
	CauseHeld     WhyCause = "held"      // each node is kept free for a larger start
	CauseImage    WhyCause = "image"     // it is kept a moment for a node that has the template
)

// Why is the answer of PathWhy: for programs Cause, and for people Text, the text of
// each rule, and Advice. Which nodes can take it is as each of them would be told if
// it asked for work now, alone.
type Why struct {
	InstanceID InstanceID    `json:"instance_id,omitempty"` // "" of a request
	State      InstanceState `json:"state,omitempty"`       // "" of a request
	Cause      WhyCause      `json:"cause"`
	// Text says in a sentence or two why it waits and what ends the wait.
	Text string `json:"text"`
	// Waited is how long it has waited since it was created or handed back last.
	Waited   float64 `json:"waited_seconds"`
	Priority int     `json:"priority"`
	// Place is that among the instances that wait, from 1; 0 when it does not wait. Of
	// a request it is the one that it would have.
	Place   int `json:"place"`
	Waiting int `json:"waiting"` // how many wait
	Nodes   int `json:"nodes"`   // how many there are
	// Rules are those that exclude nodes, in the order in which they are looked at.
	Rules []WhyRule `json:"rules"`
	// Fit are the nodes that no rule excludes.
	Fit WhyNodes `json:"fit"`
	// HandedBack are the nodes that took it and gave it back, oldest first.
	HandedBack []WhyHandback `json:"handed_back"`
	// Advice is what a person could do, each a line.
	Advice []string `json:"you_could"`
}

// WhyRule is one rule of placement and what it leaves of the nodes that those before
// it left.
type WhyRule struct {
	Rule WhyCause `json:"rule"`
	// Text goes on from the number of nodes: "are amd64, it needs arm64".
	Text     string   `json:"text"`
	Left     int      `json:"left"`
	Excluded WhyNodes `json:"excluded"`
}

// WhyNodes is a number of nodes, and the first of them by id.
type WhyNodes struct {
	Count   int      `json:"count"`
	WithTag int      `json:"with_template"` // how many have the template's tag
	IDs     []NodeID `json:"node_ids"`      // at most MaxWhyNodes
}

// MaxWhyNodes bounds the ids of one list.
const MaxWhyNodes = 20

// WhyHandback is a node that handed an instance back.
type WhyHandback struct {
	NodeID NodeID    `json:"node_id"`
	Name   string    `json:"node_name,omitempty"` // "" of a node that is gone
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
	// Again is in how long the node is asked again; 0 for now.
	Again float64 `json:"again_in_seconds"`
}

// Why returns why an instance waits, or ErrNotFound. A controller from before the call
// answers with wire.CodeNoSuchCall.
func (c *Client) Why(ctx context.Context, id InstanceID) (Why, error) {
	return call[Why](ctx, c, http.MethodGet, PathWhy+"?id="+url.QueryEscape(string(id)), nil)
}

// WhyNot returns whether a start would find a node now, and if not, why. It starts
// nothing.
func (c *Client) WhyNot(ctx context.Context, req StartRequest) (Why, error) {
	return call[Why](ctx, c, http.MethodPost, PathWhy, req)
}
