// Package faultnet is a network in memory whose addresses can be broken: a
// refused or unanswered connect, delay, loss, reset and half-close. Connections
// have deadlines and buffers like TCP's, so that net/http runs over them, and
// block only in ways that testing/synctest understands, so that minutes of
// faults pass in no time.
//
//	n := faultnet.New()
//	ln, err := n.Listen("a:80")
//	go http.Serve(ln, handler)
//	cfg.DialContext = n.DialContext
//	n.Set("a:80", faultnet.Fault{Hold: true}) // packets are lost until healed
//	n.Heal("a:80")
package faultnet
