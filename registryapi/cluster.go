package registryapi

import (
	"context"
	"net/http"
	"time"
)

// Cluster is the body of GET /registry/v1/cluster, and the cluster field of
// Status: how one host of several that are one registry stands.
type Cluster struct {
	// Catalogue is the id of what all hosts share; "" before it is known.
	Catalogue string `json:"catalogue"`
	// Self is this host's name.
	Self string `json:"self"`
	// Copies is how many hosts must have a push before it is acknowledged, and
	// Strict whether it is refused when fewer can.
	Copies int  `json:"copies"`
	Strict bool `json:"strict"`
	// Fresh reports whether the catalogue was proven up to date just now.
	Fresh bool `json:"fresh"`
	// Hosts is never nil.
	Hosts []ClusterHost `json:"hosts"`
	// Tags counts all tags, FewCopies those that fewer hosts have than Copies
	// and than there are hosts, and Missing those that this host has not yet.
	Tags      int `json:"tags"`
	FewCopies int `json:"tags_with_few_copies"`
	Missing   int `json:"tags_missing_here"`
	// CopiedBytes counts what this host copied from others since its start.
	CopiedBytes int64  `json:"copied_bytes"`
	LastError   string `json:"last_error,omitempty"`
}

// ClusterHost is a host of the registry.
type ClusterHost struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Store is the id of its directory; another disk has another.
	Store string `json:"store"`
	Self  bool   `json:"self"`
	// Live means that it said so to etcd within some seconds.
	Live bool `json:"live"`
	// Tags is how many tags it has complete.
	Tags int `json:"tags"`
}

// TagCopies is an element of GET /registry/v1/copies: the hosts that have all of
// a tag's content.
type TagCopies struct {
	TemplateID string    `json:"template_id"`
	Template   string    `json:"template"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	Digest     string    `json:"digest"`
	Size       uint64    `json:"size"`
	Pushed     time.Time `json:"pushed"`
	// Hosts are their names, sorted, also of hosts that are down; never nil.
	Hosts []string `json:"hosts"`
	// Live is how many of them are up.
	Live int `json:"live"`
	// Few means that a host less than asked for has it.
	Few bool `json:"few"`
}

// Cluster returns how the registry's hosts stand. A registry of one directory
// answers with no hosts.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	return call[Cluster](ctx, c, http.MethodGet, "/registry/v1/cluster", nil)
}

// Copies returns which hosts have which tags, by repository and order of push.
func (c *Client) Copies(ctx context.Context) ([]TagCopies, error) {
	return call[[]TagCopies](ctx, c, http.MethodGet, "/registry/v1/copies", nil)
}
