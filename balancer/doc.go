// Package balancer spreads HTTP requests over a pool of equal servers from the
// client's side: no load balancer in between, no single address to lose.
//
//	b, err := balancer.New(balancer.DefaultConfig(), log)
//	...
//	err = b.SetMembers(balancer.OriginJoin, []string{"http://10.0.1.4:8090", "http://10.0.1.5:8090"})
//	go b.Run(ctx) // probes; wait for it to return after cancelling ctx
//	resp, err := b.Client().Get("http://controllers/api/v1/status")
//
// The host of a request's URL names the pool and is replaced; the path is kept
// below the endpoint's own.
//
// # What it does
//
//   - Requests go round robin. One that fails goes to the next endpoint at
//     once, without a pause; one without an answer for longer than usual is sent
//     to a second endpoint beside the first, and the first answer counts.
//   - An endpoint is out after five failures in a row or less than 80 % success
//     in half a minute, after five late answers in a row while its peers are on
//     time, or after three failed probes, whichever is first. It comes back when
//     its probes pass again, with a share that grows over 30 s. Where readiness
//     was good all the time, a copy of a recent harmless request has to succeed
//     first; user traffic never tries it out. A server without readiness, which
//     never passed a probe and answers it with 404 or the like, is used and comes
//     back as if its answer were a pass.
//   - When fewer than half of the endpoints are usable the others are tried as
//     well. When none is, or the last refuses one request after the other, those
//     that may be repeated wait, and each endpoint is tried for them at most three
//     times a second, until one answers or the deadline comes.
//   - Answers of up to ReadAhead bytes are read before they are returned, so that
//     a reset in their middle is repeated elsewhere, and so are silences. One whose
//     length is not announced, and which is not whole when an answer would be late, is
//     taken for a stream and passed on as it comes, unless answers of its kind have
//     been short documents so far: then another endpoint is asked, too, and it is
//     passed on when every usable one does the same.
//   - Where answers without a length end as a rule, one that is passed on as it comes
//     and sends nothing for 1.5 s is broken off.
//   - What all endpoints do is charged to none of them: a refusal (429, 502, 503, 504),
//     a body that does not end or goes on where others have ended count against an
//     endpoint when a peer does well what it failed.
//   - An endpoint that alone answers differently is out, however good its probes are.
//     Error answers, broken connections and missing answers are counted by endpoint and
//     kind of request; it goes when callers' own mistakes would come to it so unevenly
//     once in 100,000 times (with three endpoints: eleven, all at one), or when three of
//     its errors in a row were answered well by a peer, which is asked from the third
//     on. It comes back when it answers a copy of such a request well, or, where none
//     can be sent without harm, when the breaker's open time is over.
//   - A larger answer to a GET, of known length, that has a strong ETag (or whose
//     path ends in the content's sha256) goes on at another endpoint, from the byte
//     it had reached, when its own breaks off or sends nothing for 1.5 s.
//
// # What may be repeated
//
// GET, HEAD, OPTIONS, TRACE and every request with an Idempotency-Key header.
// Any other is repeated only when it surely did not reach a server, avoids
// endpoints that show any sign of trouble, and is otherwise answered with
// whatever its one attempt met. Repeats stay within a budget of 20 % of the
// requests plus ten a second.
//
// # What it does not promise
//
// A write without a key that was sent to an endpoint which then dies may or may
// not have run. An answer larger than ReadAhead that breaks or stalls in its
// middle ends in an error for the caller, unless it can be continued. Without Run,
// endpoints that went out do not come back.
//
// Some answers that never end cannot be told from streams, and are passed on for as
// long as they are read: those of a kind (method, path and names in the query) of which
// twenty have not been seen to end yet, or which every endpoint leaves open; those that
// say text/event-stream; those that the caller declared to wait for; and those that
// flow, from a pool of one or to a write without a key, though a peer's end. A stream
// that is silent for over 1.5 s where answers end as a rule is broken off: let its query
// have a name that they have not, or its type be text/event-stream.
//
// # Concurrency
//
// All methods of Balancer are safe for concurrent use. Run owns one goroutine
// that keeps the time, one that keeps the cache and a short one per probe; a
// hedged request has one per hedge, which ends with the request, and a document
// of unannounced length one that reads it.
//
// # Metrics
//
// Collector gives anka_balancer_endpoint_state, _eligible, _weight_ratio,
// _in_flight_requests, _transfers, _requests_total, _failures_total, _late_total,
// _ejections_total, _latency_seconds and _breaker_state by pool and endpoint, and
// anka_balancer_failed_open, _local_fault, _retry_budget_requests, _retries_total,
// _hedges_total and _resumes_total by pool.
package balancer
