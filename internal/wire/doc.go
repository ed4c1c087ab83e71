// Package wire is what the controller's and the registry's REST APIs have in
// common: the envelope, request decoding, the mapping of errors to answers, and
// the middleware around every handler.
//
// A server is a table of routes. Each is a pattern, the permission that its caller
// needs, and a handler; a handler is a function from a request to a body or an
// error, and finds its caller by access.From:
//
//	mux := api.Mux([]wire.Route{
//		{Pattern: "GET /api/v1/status", Permission: access.Authenticated, Handler: api.Handle(s.status)},
//	})
//
//	func (s *Server) status(r *http.Request) (any, error) { ... }
//
// A Stream answers with one event after another, and Follow reads them.
//
// Handlers that stream data are plain http.Handlers and do not pass through
// Handle; the middleware around them keeps io.ReaderFrom intact so that
// http.ServeContent can reach sendfile(2).
package wire
