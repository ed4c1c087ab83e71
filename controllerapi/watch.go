package controllerapi

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// PathWatch is the stream of changes; see WatchEvent.
const PathWatch = "/api/v1/watch"

// Kind is what a Change is of.
type Kind string

// Kinds of changes.
const (
	KindVM      Kind = "vm"      // a ListedInstance, by instance id
	KindNode    Kind = "node"    // a Node, by node id
	KindGroup   Kind = "group"   // a Group, by group id
	KindCluster Kind = "cluster" // the Cluster; its id is ""
)

// Kinds are all kinds.
var Kinds = []Kind{KindVM, KindNode, KindGroup, KindCluster}

// WatchEvent is one event of PathWatch. Every controller tells the same changes in the
// order of the same revisions, which are etcd's, so that a stream that broke goes on
// at any of them, from the newest revision that was told.
type WatchEvent struct {
	// Revision is that up to which the receiver knows everything after this event:
	// what it asks for since when it comes again. 0 in parts of a snapshot but the last.
	Revision int64 `json:"revision,omitempty"`
	// Snapshot marks changes that are all there is and replace what was known. It
	// comes first unless a revision is asked for whose successors are still known; a
	// large one comes in parts, of which the last has a Revision.
	Snapshot bool `json:"snapshot,omitempty"`
	// Changes are those of one revision, or of a snapshot. A beat has none.
	Changes []Change `json:"changes,omitempty"`
	// End says why no event follows: one of the Ended words.
	End string `json:"end,omitempty"`
}

// Reasons for which a controller ends a stream. After all but EndedDenied the caller
// comes again.
const (
	EndedDraining  = "draining"  // the controller ends
	EndedCompacted = "compacted" // changes that were not told are no longer known; a snapshot comes first
	EndedDenied    = "denied"    // the caller may not read this any more
)

// Change is an object that was made or changed, or is gone. A VM is as it was at the
// event's revision; what a node, group or cluster is may be newer, and then comes again.
type Change struct {
	Kind   Kind            `json:"kind"`
	ID     string          `json:"id"`
	Gone   bool            `json:"gone,omitempty"`
	Object json.RawMessage `json:"object,omitempty"`
}

// Watch yields the changes after a revision, 0 for a snapshot first, until the stream
// ends or breaks. kinds are all if there are none.
func (c *Client) Watch(ctx context.Context, since int64, kinds ...Kind) iter.Seq2[WatchEvent, error] {
	query := make(url.Values)
	if since > 0 {
		query.Set("since", strconv.FormatInt(since, 10))
	}
	if len(kinds) > 0 {
		words := make([]string, len(kinds))
		for i, k := range kinds {
			words[i] = string(k)
		}
		query.Set("kinds", strings.Join(words, ","))
	}
	path := PathWatch
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return wire.Follow[WatchEvent](ctx, &c.wire, wire.Request{Method: http.MethodGet, Path: path})
}
