package registryapi

import (
	"context"
	"net/http"
	"time"
)

// Replication is the body of GET /registry/v1/replication: how far a registry
// is with copying from others.
type Replication struct {
	// Active is false while another server of the same directory copies.
	Active bool `json:"active"`
	// InSync means that every source was compared and nothing is left to do.
	InSync bool `json:"in_sync"`
	// LagSeconds is the age of the oldest change that is not here yet, by the
	// source's clock; 0 when there is none.
	LagSeconds float64 `json:"lag_seconds"`
	// Pending counts repositories with changes that are not here yet.
	Pending int `json:"pending_repositories"`
	// Sources is never nil.
	Sources []ReplicationSource `json:"sources"`
	// Copies are the manifests being copied now.
	Copies []ReplicationCopy `json:"copies,omitempty"`
	// CopiedBytes counts what went over the network since the start.
	CopiedBytes int64  `json:"copied_bytes"`
	Errors      int64  `json:"errors"`
	LastError   string `json:"last_error,omitempty"`
}

// ReplicationSource is a registry that is copied from.
type ReplicationSource struct {
	URL       string    `json:"url"`
	Connected bool      `json:"connected"`
	Compared  bool      `json:"compared"` // all of it, since the start
	LastSeen  time.Time `json:"last_seen"`
	Error     string    `json:"error,omitempty"`
}

// ReplicationCopy is a manifest with its blobs on their way.
type ReplicationCopy struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	Done       int64  `json:"done_bytes"`
	Total      int64  `json:"total_bytes"`
}

// Replication returns how far the registry is with copying from others.
func (c *Client) Replication(ctx context.Context) (Replication, error) {
	return call[Replication](ctx, c, http.MethodGet, "/registry/v1/replication", nil)
}
