package controllerapi

import (
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// Messages that existing clients match on, to the letter.
const (
	MsgNotFound        = "Not found"
	MsgNoSuchTemplate  = "VM not in the registry"
	MsgNoSuchTagPrefix = "No such tag "
	MsgAuthentication  = wire.MsgAuthentication
	// The agent wire's own.
	MsgUnknownNode  = "Node is not registered"
	MsgSessionEnded = "Session was replaced by a newer one"
	MsgOtherHost    = "The node with this id is another host; this one has a copy of its state"
)

// Codes of answers; test what a Client returns with errors.Is.
const (
	ErrNotFound       = wire.CodeNotFound
	ErrUnauthorized   = wire.CodeUnauthenticated
	ErrNoSuchTemplate = registryapi.ErrNoSuchTemplate
	ErrNoSuchVersion  = registryapi.ErrNoSuchVersion
	ErrNoSuchGroup    = wire.Code("no_such_group")
	ErrNoSuchNode     = wire.Code("no_such_node")
	ErrGroupExists    = wire.Code("group_exists")
	ErrFallbackCycle  = wire.Code("fallback_cycle")
	ErrBadState       = wire.Code("bad_state")
	ErrNoMAC          = wire.Code("no_free_mac_address")
	// ErrUnknownNode: register again.
	ErrUnknownNode = wire.Code("unknown_node")
	// ErrSessionEnded: another agent process acts for this node; end.
	ErrSessionEnded = wire.Code("session_ended")
	// ErrOtherHost: the node's id is that of another host, whose state this one
	// has a copy of; end, and leave its VMs alone.
	ErrOtherHost = wire.Code("other_host")
)

// before are the codes of what controllers say that answer without codes.
var before = map[string]wire.Code{
	MsgNotFound:       ErrNotFound,
	MsgNoSuchTemplate: ErrNoSuchTemplate,
	MsgUnknownNode:    ErrUnknownNode,
	MsgSessionEnded:   ErrSessionEnded,
	MsgOtherHost:      ErrOtherHost,
}

// server is what errors of a Client call the server.
const server = "controller"

// Answered returns what a controller answered, when err holds an answer.
func Answered(err error) (*wire.Error, bool) { return wire.Answered(err, server) }
