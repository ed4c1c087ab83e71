package endpoint

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Origin says where an address came from.
type Origin string

const (
	// OriginJoin: given by a person; kept for ever as the last resort.
	OriginJoin Origin = "join"
	// OriginLearned: announced by the cloud.
	OriginLearned Origin = "learned"
	// OriginCached: announced by the cloud before the last restart.
	OriginCached Origin = "cached"
)

// Parse checks an endpoint's address and brings it into its one
// spelling: http or https, a host, a lower-case name, no query, no slash at the
// end.
func Parse(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		return nil, fmt.Errorf("endpoint %q must begin with http:// or https://", raw)
	}
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", raw, err)
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("endpoint %q must begin with http:// or https://", raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("endpoint %q has no host", raw)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("endpoint %q must not have a query or a fragment", raw)
	case u.User != nil:
		return nil, fmt.Errorf("endpoint %q must not hold a user or password", u.Redacted())
	}
	if u.Port() == "80" && u.Scheme == "http" || u.Port() == "443" && u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// Sample is a recent request that can be copied without harm: reading, small,
// answered well. A copy of it tells whether an endpoint that was taken out with
// good readiness works again; user traffic never has to find out.
type Sample struct {
	Req  *http.Request
	At   time.Time
	Took time.Duration
}
