// Package controllerapi is the controller's contract: the wire types of the REST
// API that CI systems use, the wire between node agent and controller, and a
// typed client for both. It imports no server and no etcd; the server is in
// controllerapi/server.
//
// # The agent wire
//
// Plain JSON over HTTP under /api/v1/agent/, in the same envelope as the rest.
// Every call may be sent twice, to two controllers, with one effect:
//
//   - register is idempotent by (node_id, session).
//   - sync is a full statement of the parts it carries; a repeat says the same.
//   - reserve is idempotent by reservation_id: a repeat returns the same task.
//   - report is idempotent by (task_id, attempt, seq): an older seq is ignored.
//
// A session is one life of an agent process. A controller that sees a newer
// session of a node rejects the older one, so that a zombie cannot act.
package controllerapi
