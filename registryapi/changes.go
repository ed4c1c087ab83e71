package registryapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Kinds of change.
const (
	TagPut            = "tag_put"
	TagDeleted        = "tag_deleted"
	ManifestPut       = "manifest_put"
	ManifestDeleted   = "manifest_deleted"
	MetaPut           = "meta_put"
	RepositoryDeleted = "repository_deleted"
)

// Change says that something in a repository may be different now. Whoever
// follows changes looks at the present state (Repository): a change may be told
// twice, and its details may be out of date when they are read.
type Change struct {
	Kind       string    `json:"kind"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag,omitempty"`
	Digest     string    `json:"digest,omitempty"`
	Order      int64     `json:"order,omitempty"`
	Time       time.Time `json:"time"`
}

// Changes is the body of GET /registry/v1/changes: what happened after a
// cursor, and the cursor to ask with next.
type Changes struct {
	Cursor string `json:"cursor"`
	// Reset means that the cursor asked with is not known, as "" never is: the
	// caller compares all repositories after this answer, then follows Cursor.
	Reset bool `json:"reset"`
	// Changes is never nil.
	Changes []Change `json:"changes"`
	// Time is the server's, for telling lag without trusting two clocks.
	Time time.Time `json:"time"`
	// Store is the id of the store that this is the feed of, which another one
	// at the same address does not have; "" when it is not known.
	Store string `json:"store,omitempty"`
}

// RepositoryState is the body of GET /registry/v1/repository: all that another
// registry needs, beside the content, to hold the same repository.
type RepositoryState struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"` // the template's
	Created time.Time `json:"created"`
	Arch    string    `json:"arch,omitempty"`
	// Tags are in order of push; Manifests have the untagged ones too. Neither
	// is nil.
	Tags      []TagState      `json:"tags"`
	Manifests []ManifestState `json:"manifests"`
	// Incomplete means that some of it could not be read: what is missing here
	// need not be deleted.
	Incomplete bool `json:"incomplete,omitempty"`
	// Store is that of Changes.
	Store string `json:"store,omitempty"`
}

// TagState is a tag as stored.
type TagState struct {
	Tag    string    `json:"tag"`
	Digest string    `json:"digest"`
	Order  int64     `json:"order"`
	Pushed time.Time `json:"pushed"`
}

// ManifestState is a manifest that a repository has.
type ManifestState struct {
	Digest    string    `json:"digest"`
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"`
	Pushed    time.Time `json:"pushed"`
}

// Changes returns what happened after the cursor since. When there is nothing
// the server waits up to wait, at most 50 seconds, for something to happen; the
// answer is then empty.
func (c *Client) Changes(ctx context.Context, since string, wait time.Duration) (Changes, error) {
	q := url.Values{"since": {since}, "wait": {strconv.FormatInt(wait.Milliseconds(), 10) + "ms"}}
	return call[Changes](ctx, c, http.MethodGet, "/registry/v1/changes?"+q.Encode(), nil)
}

// Repository returns a repository's state; one that does not exist has no tags
// and no manifests.
func (c *Client) Repository(ctx context.Context, name string) (RepositoryState, error) {
	return call[RepositoryState](ctx, c, http.MethodGet, "/registry/v1/repository?name="+url.QueryEscape(name), nil)
}

// Repositories lists the names of all repositories, sorted.
func (c *Client) Repositories(ctx context.Context) ([]string, error) {
	return call[[]string](ctx, c, http.MethodGet, "/registry/v1/repositories", nil)
}
