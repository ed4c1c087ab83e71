// Package server is the controller: the REST API for CI systems, the wire for
// node agents, and what goes on behind them. It holds no state of its own; all is
// in etcd, by way of cloudstore, and any number of servers on one etcd are one
// cloud.
//
//	srv, err := server.New(cfg, etcd, log)
//	...
//	go http.Serve(listener, srv.Handler())
//	err = srv.Run(ctx)
//
// handler.go is the table of routes. Each resource has a file: what a request
// means, what it is checked for, and which change of cloudstore it becomes.
//
// The dispatcher (dispatch.go) brings tasks and nodes together: it hears of every
// change of the view (viewchanges.go) and of every node that waits (agents.go), and
// offers; cloud decides on the claim.
//
// # Stopping
//
// Drain first: /readyz fails, the cloud's list says draining, and long polls end
// with no task. Then shut the HTTP server down, and last end Run's context, which
// takes the controller off the list.
package server
