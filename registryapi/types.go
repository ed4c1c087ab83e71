package registryapi

// Media types of a pushed VM. Any other media type is stored and served too.
const (
	MediaTypeVMConfig = "application/vnd.ankacluster.vm.config.v1+json"
	MediaTypeVMFile   = "application/vnd.ankacluster.vm.file.v1"
)

// Template is a VM template, all its tags together. Size is in bytes and counts
// a file that several tags share once. Times are Unix seconds, 0 for never.
type Template struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Size     uint64 `json:"size"`
	Arch     string `json:"arch,omitempty"` // arm64 or amd64; left out when not known
	LastPull int64  `json:"last_pull"`
	LastPush int64  `json:"last_push"`
	// Repository is the OCI repository that holds the template, with its
	// prefix. It is an addition of ours to the documented object.
	Repository string `json:"repository,omitempty"`
	// Versions is set when one template is asked for, oldest first; nil in lists.
	Versions []Version `json:"versions,omitempty"`
}

// Version is one tag of a template.
type Version struct {
	Tag          string   `json:"tag"`
	Number       int      `json:"number"` // from 0, in order of creation
	Description  string   `json:"description"`
	Images       []string `json:"images"`      // newest layer first, never nil
	StateFiles   []string `json:"state_files"` // never nil
	StateFile    string   `json:"state_file"`
	ConfigFile   string   `json:"config_file"`
	NVRAM        string   `json:"nvram"`
	Size         uint64   `json:"size"`
	Arch         string   `json:"arch"`
	LastPull     int64    `json:"last_pull"`
	LastPush     int64    `json:"last_push"`
	CreationDate int64    `json:"creation_date"`
	// Digest is the manifest's digest, an addition of ours.
	Digest string `json:"digest,omitempty"`
}

// Status is the body of GET /registry/status.
type Status struct {
	Status  string `json:"status"` // "Running"
	Version string `json:"version"`
	// Store is the id of what it holds: servers of one directory have the same. An
	// addition of ours.
	Store string `json:"store,omitempty"`
	// Replication is set on a registry that copies from others, an addition of
	// ours.
	Replication *Replication `json:"replication,omitempty"`
	// Cluster is set on a registry that is one with those of other hosts.
	Cluster *Cluster `json:"cluster,omitempty"`
}

// Disk is the body of GET /registry/disk, in bytes.
type Disk struct {
	Free  uint64 `json:"free"`
	Total uint64 `json:"total"`
}

// HeaderNoPull, with any value, on a GET of a manifest says that nobody pulls
// the template: copies between registries and mere looks do not count in
// last_pull.
const HeaderNoPull = "X-Anka-No-Pull"

// HeaderPeer is on a request that one server of a registry sends to another. It
// is answered from that server's own directory. Its value says what an upload is
// for; see PeerCopy and PeerRelay.
const HeaderPeer = "X-Anka-Registry-Peer"

// Values of HeaderPeer.
const (
	PeerCopy  = "copy"  // the copy of a blob
	PeerRelay = "relay" // the copy of a blob, to be copied on
)

// HeaderUploadOffset, on an answer about an upload, is how many of its bytes
// have arrived. The specification's Range header cannot tell none from one.
const HeaderUploadOffset = "Upload-Offset"
