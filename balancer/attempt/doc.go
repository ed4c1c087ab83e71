// Package attempt sends one request over the endpoints of a pool until one answers.
//
//	Sender.Send          picks the first endpoint; one pass: each endpoint at most once
//	  pass               the request on its way; attempts race, the first answer counts
//	    attempt          one request to one endpoint, admitted by its breaker
//	      outcome        what it came to, by a table, and whether the request goes on
//	  judge              what that says of the endpoint: breaker, lateness, deviations
//
// A late answer has a copy sent beside it (hedge), a failed one has the request sent to the
// next endpoint at once; a budget bounds both. Small answers are read before they are
// returned, so that a reset in their middle is this attempt's failure and not the caller's.
//
// A Sender changes nothing in the pool by itself: it asks the Pool for transitions. Each
// attempt owns the goroutine that it runs in: the caller's, or its alarm's for a hedge,
// which ends with the request.
package attempt
