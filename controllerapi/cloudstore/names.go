package cloudstore

import "github.com/ankacluster/ankacluster/controllerapi/cloud"

// The names of the domain under which the server knows them.
type (
	Changes            = cloud.Changes
	Failure            = cloud.Failure
	GroupUpdate        = cloud.GroupUpdate
	Image              = cloud.Image
	Instance           = cloud.Instance
	InstanceUpdate     = cloud.InstanceUpdate
	MACRange           = cloud.MACRange
	Node               = cloud.Node
	Reservation        = cloud.Reservation
	Rollout            = cloud.Rollout
	Server             = cloud.Server
	Stage              = cloud.Stage
	StartObserver      = cloud.StartObserver
	StartRequestRecord = cloud.StartRequestRecord
	View               = cloud.View
)

// Errors of the domain.
var (
	ErrBadState      = cloud.ErrBadState
	ErrFallbackCycle = cloud.ErrFallbackCycle
	ErrGroupExists   = cloud.ErrGroupExists
	ErrNoMAC         = cloud.ErrNoMAC
	ErrNoSuchGroup   = cloud.ErrNoSuchGroup
	ErrNoSuchNode    = cloud.ErrNoSuchNode
	ErrNotFound      = cloud.ErrNotFound
	ErrOtherHost     = cloud.ErrOtherHost
	ErrSessionEnded  = cloud.ErrSessionEnded
	ErrSpent         = cloud.ErrSpent
	ErrTaken         = cloud.ErrTaken
	ErrUnknownNode   = cloud.ErrUnknownNode
)

// The kinds of announced servers, and the largest start request.
const (
	KindController = cloud.KindController
	KindRegistry   = cloud.KindRegistry
	MaxCount       = cloud.MaxCount
)

// ParseMACRange is cloud.ParseMACRange.
func ParseMACRange(s string) (MACRange, error) { return cloud.ParseMACRange(s) }
