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
// # Layers
//
//	http.Client                       Balancer.Client
//	  repeater                        go-retryablehttp: one pass after the other
//	    Balancer.RoundTrip            one pass over the endpoints
//	      download                    a large answer that goes on at another endpoint
//	        splice                    its bytes moved by the kernel of Linux
//	      attempt                     one endpoint after the other, hedges, retry budget
//	        route                     what is known of requests of its kind
//	        pick                      which endpoint is next, of the newest view
//	        endpoint                  connections, breaker (gobreaker), what is under way
//	Balancer.Run
//	  prober -> health                what state an endpoint is in
//	  members, cache                  who is in the pool
//
// Each is a package below this one, which knows those below it and none above. Package
// proxy is a handler in front of a pool, package metrics its status for Prometheus.
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
// # Knobs
//
// All are fields of Config, with their reasons there; the defaults are DefaultConfig's, and
// BlobConfig's for large transfers.
//
//	Probe      the active check: path, pace, timeout, how many failures and passes decide
//	Breaker    the passive one: failures in a row, success rate, how long an endpoint is out
//	Slow       how many late answers take an endpoint out beside its peers
//	Retry      share and reserve of the retry budget; pace and end of further passes
//	Hedge      when a second copy of a request is sent
//	Stall      how long a body may be silent, and an upload not be taken
//	Cache      where the learned members are kept over a restart
//	Rhythm     shared by pools that are to be probed together
//	SlowStart, SlowStartFrom          the growing share of an endpoint that is back
//	FailOpenBelow                     the usable part below which all are tried
//	ConnectTimeout, TLSHandshakeTimeout, ConnectRace, ProveAfter, MaxIdleConns, IdleTimeout
//	                                  connections
//	ReadAhead                         what is read before it is returned
//	NotFoundAsksNext                  whether a 404 is asked of another endpoint
//	VerifyDigests, Splice             what is hashed, and what the kernel moves
//	Debounce, LocalFaultWindow, ReturnAtOnce
//	                                  changes of the members, faults of this machine, how
//	                                  many of those that waited are sent at once
//	TLS, TLSFor, DialContext, Resolve, OnTransition
//	                                  what a program brings of its own
//
// # Dependencies
//
// sony/gobreaker, hashicorp/go-retryablehttp (with go-cleanhttp), uber/zap (with multierr)
// for its log, golang.org/x/sys, and one package of this module, which writes files. Nothing
// of them reaches a caller but a *zap.Logger, which may be nil.
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
// Package metrics gives them, from Status, when they are asked for. By pool and endpoint,
// each beginning with anka_balancer_endpoint_:
//
//	state                 1 for the state that it is in: unknown, healthy, ejected, down, draining
//	eligible              1 when the next request may choose it
//	weight_ratio          its part of a fair share, below 1 during slow start
//	in_flight_requests    requests without an answer yet
//	transfers             answers whose body is being read
//	requests_total        all requests sent to it
//	failures_total        those that failed
//	late_total            answers that were late
//	ejections_total       how often it was taken out
//	latency_seconds       recent time to answer, by quantile
//	breaker_state         1 for the state of its breaker: closed, half-open, open
//
// By pool, each beginning with anka_balancer_:
//
//	failed_open             1 when too few endpoints are usable and all are tried
//	local_fault             1 when this machine's own network keeps it from all of them
//	retry_budget_requests   repeats that there is room for
//	retries_total           repeats after a failure
//	hedges_total            second copies for late answers
//	resumes_total           downloads that were continued at another endpoint
package balancer
