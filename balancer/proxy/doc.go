// Package proxy is a loopback reverse proxy in front of balanced pools, for
// programs that take one address: a CI system's plugin, a command line, curl.
//
//	ctl, _ := balancer.New(balancer.DefaultConfig(), log)
//	srv := proxy.Server{Listener: ln, Handler: proxy.New(proxy.Config{Control: ctl}, log), Log: log}
//	go ctl.Run(ctx)
//	err := srv.Run(ctx)
//
// It streams in both directions and passes headers, chunked bodies, trailers,
// "Expect: 100-continue", early hints, HEAD, ranges and upgrades through. What
// may be repeated on another endpoint is the balancer's rule: reading requests,
// and writes with an Idempotency-Key.
//
// With a second pool for large transfers (Config.Blob) it is a registry's proxy:
//
//   - a download that loses its registry continues on another, from the byte it
//     had reached, without the client noticing;
//   - content that a lagging replica lacks is asked of the next registry;
//   - the steps of a push stay on the registry that began it, found by the
//     repository and by the upload's location.
//
// Before any endpoint has been reachable it answers 503 with the reason, and
// Retry-After.
package proxy
