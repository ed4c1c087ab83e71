package cloudstore

import (
	"context"
	"encoding/json"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
)

// What the server needs of etcdkit.
type (
	Idem   = etcdkit.Idem
	Replay = etcdkit.Replay
)

// Errors of etcd.
var (
	ErrKeyReused    = etcdkit.ErrKeyReused
	ErrNoSpace      = etcdkit.ErrNoSpace
	ErrOtherHistory = etcdkit.ErrOtherHistory
	ErrUnavailable  = etcdkit.ErrUnavailable
)

// WithIdem is etcdkit.WithIdem.
func WithIdem(ctx context.Context, key string, request []byte, encode func(answer any) json.RawMessage) (context.Context, *Idem) {
	return etcdkit.WithIdem(ctx, key, request, encode)
}

// Plan is etcdkit.Plan on the Store's etcd.
func Plan[T any](ctx context.Context, s *Store, plan *T) (again bool, err error) {
	return etcdkit.Plan(ctx, s.kit, plan)
}

// Settle keeps the answer of a request that changed nothing, or returns *Replay
// with the first answer if there is one.
func (s *Store) Settle(ctx context.Context, answer any) error { return s.kit.Settle(ctx, answer) }

// The names of the domain under which the server knows them.
type (
	Changes            = cloud.Changes
	Failure            = cloud.Failure
	GroupUpdate        = cloud.GroupUpdate
	SaveRequest        = cloud.SaveRequest
	Instance           = cloud.Instance
	InstanceUpdate     = cloud.InstanceUpdate
	MACRange           = cloud.MACRange
	Node               = cloud.Node
	Reservation        = cloud.Reservation
	Refused            = cloud.Refused
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
