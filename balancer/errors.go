package balancer

import "errors"

// Errors that callers may ask for with errors.Is.
var (
	// ErrEmptyList: a learned list without a single address was refused.
	ErrEmptyList = errors.New("an empty endpoint list is refused")
	// ErrNoMember: the endpoint is not one of the pool.
	ErrNoMember = errors.New("is not a member")
)
