package balancer

import "errors"

// Errors that callers may ask for with errors.Is.
var (
	// ErrDigest: a download's bytes are not those that its digest names.
	ErrDigest = errors.New("content does not match its digest")
	// ErrEmptyList: a learned list without a single address was refused.
	ErrEmptyList = errors.New("an empty endpoint list is refused")
	// ErrNoMember: the endpoint is not one of the pool.
	ErrNoMember = errors.New("is not a member")
)
