package attempt

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// IdempotencyHeader marks a write that the server runs once however often it
// arrives.
const IdempotencyHeader = "Idempotency-Key"

// Repeatable reports whether a server may receive the request twice without harm:
// reading methods, and writes with a key. PUT is treated as a write: what it
// overwrites may have changed in between.
func Repeatable(req *http.Request) bool {
	if len(req.Header["Upgrade"]) > 0 {
		return false // it becomes a conversation with one server
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	key := req.Header[IdempotencyHeader]
	return len(key) > 0 && key[0] != ""
}

type preferKey struct{}

// WithPrefer asks that a request's first attempt go to the endpoint with this
// URL as long as it is usable, as the steps of one upload must.
func WithPrefer(ctx context.Context, endpoint string) context.Context {
	return context.WithValue(ctx, preferKey{}, endpoint)
}

// ServedBy returns the URL of the endpoint that gave resp, or "" if no
// balancer did.
func ServedBy(resp *http.Response) string {
	if resp == nil || resp.Request == nil {
		return ""
	}
	name, _ := resp.Request.Context().Value(servedKey{}).(string)
	return name
}

type servedKey struct{}

type patienceKey struct{}

// WithPatience bounds how long Client waits for an endpoint that can answer, in
// place of Retry.MaxElapsed. Unlike a deadline it does not end the reading of
// an answer.
func WithPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

// PatienceOf is what WithPatience said.
func PatienceOf(ctx context.Context) (d time.Duration, said bool) {
	d, said = ctx.Value(patienceKey{}).(time.Duration)
	return d, said
}

type waitKey struct{}

// WithWait declares that the server may hold the request for up to d before it
// answers (a long poll). It is then neither hedged nor called late before d has
// passed. A "Prefer: wait=SECONDS" header (RFC 7240) does the same.
func WithWait(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, waitKey{}, d)
}

type hedgeKey struct{}

// WithHedgeAfter bounds from below when a copy of the request may be sent to
// another endpoint for want of an answer. It is for what a fleet sends by the
// clock: where servers are late for all, copies make them later.
func WithHedgeAfter(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, hedgeKey{}, d)
}

// hedgeAfter is what WithHedgeAfter said, 0 if nothing was said.
func hedgeAfter(req *http.Request) time.Duration {
	d, _ := req.Context().Value(hedgeKey{}).(time.Duration)
	return d
}

// declaredWait is how long the server may hold req, 0 if nothing was said.
func declaredWait(req *http.Request) time.Duration {
	if d, ok := req.Context().Value(waitKey{}).(time.Duration); ok {
		return max(d, 0)
	}
	if prefer := req.Header["Prefer"]; len(prefer) > 0 {
		return preferWait(prefer)
	}
	return 0
}

// preferWait finds wait=SECONDS in Prefer headers.
func preferWait(headers []string) time.Duration {
	for _, h := range headers {
		for part := range strings.SplitSeq(h, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if !strings.EqualFold(name, "wait") {
				continue
			}
			// 31 bits of seconds fit a Duration.
			if secs, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return time.Duration(secs) * time.Second
			}
		}
	}
	return 0
}
