package controllerapi

import (
	"errors"
	"fmt"
	"net/http"
)

// Messages that existing clients match on, to the letter.
const (
	MsgNotFound        = "Not found"
	MsgNoSuchTemplate  = "VM not in the registry"
	MsgNoSuchTagPrefix = "No such tag "
	MsgAuthentication  = "Authentication Required"
	// The agent wire's own.
	MsgUnknownNode  = "Node is not registered"
	MsgSessionEnded = "Session was replaced by a newer one"
	MsgOtherHost    = "The node with this id is another host; this one has a copy of its state"
)

// Errors that a Client returns for those answers; test with errors.Is.
var (
	ErrNotFound       = errors.New("not found")
	ErrNoSuchTemplate = errors.New("template is not in the registry")
	ErrUnauthorized   = errors.New("authentication required")
	// ErrUnknownNode: register again.
	ErrUnknownNode = errors.New("node is not registered")
	// ErrSessionEnded: another agent process acts for this node; end.
	ErrSessionEnded = errors.New("session was replaced by a newer one")
	// ErrOtherHost: the node's id is that of another host, whose state this one
	// has a copy of; end, and leave its VMs alone.
	ErrOtherHost = errors.New("the node with this id is another host; this one has a copy of its state")
)

var sentinels = map[string]error{
	MsgNotFound:       ErrNotFound,
	MsgNoSuchTemplate: ErrNoSuchTemplate,
	MsgAuthentication: ErrUnauthorized,
	MsgUnknownNode:    ErrUnknownNode,
	MsgSessionEnded:   ErrSessionEnded,
	MsgOtherHost:      ErrOtherHost,
}

// APIError is an answer that is not OK.
type APIError struct {
	HTTPStatus int
	Message    string
}

func (e *APIError) Error() string {
	if e.HTTPStatus != http.StatusOK {
		return fmt.Sprintf("controller answered %d: %s", e.HTTPStatus, e.Message)
	}
	return "controller: " + e.Message
}

// Unwrap makes errors.Is work on what a remote controller answered.
func (e *APIError) Unwrap() error { return sentinels[e.Message] }
