package hypervisor

import "context"

// Sizer is a Runtime that can tell what a pull will fetch.
type Sizer interface {
	// DownloadSize returns how many bytes a pull of img would fetch: less than the
	// image's size where the node has some of its layers.
	DownloadSize(ctx context.Context, img Image, from Source) (uint64, error)
}
