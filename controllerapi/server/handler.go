package server

import (
	"net/http"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/query"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Handler returns the whole API. It may be called before Run; calls wait until
// the state is loaded.
func (s *Server) Handler() http.Handler { return s.serve(s.routes(), s.notFound) }

// NodesHandler returns the calls that nodes need, and no others.
func (s *Server) NodesHandler() http.Handler {
	var routes []wire.Route
	for _, r := range s.routes() {
		if r.Nodes {
			routes = append(routes, r)
		}
	}
	return s.serve(routes, s.nodesOnly)
}

// serve answers the routes, and what is none of them by unknown.
func (s *Server) serve(routes []wire.Route, unknown http.HandlerFunc) http.Handler {
	mux := s.api.Mux(routes)
	mux.Handle("/", s.api.NoSuchCall(mux, unknown))
	return s.outermost(s.metrics.observe(mux))
}

// routes is the API: what a call needs of its caller stands beside its handler.
func (s *Server) routes() []wire.Route {
	// The words behind a handler are the parameters that its call takes.
	read := func(pattern string, need access.Permission, h wire.HandlerFunc, takes ...string) wire.Route {
		return wire.Route{Pattern: "GET " + pattern, Permission: need, Handler: s.api.Handle(wire.Taking(h, takes...))}
	}
	write := func(pattern string, need access.Permission, h wire.HandlerFunc, takes ...string) wire.Route {
		return wire.Route{Pattern: pattern, Permission: need, Handler: s.write(wire.Taking(h, takes...))}
	}
	agent := func(path string, need access.Permission, h wire.HandlerFunc) wire.Route {
		return wire.Route{Pattern: "POST " + path, Permission: need, Handler: s.agent(h)}.ForNodes()
	}
	list := func(pattern string, need access.Permission, h wire.HandlerFunc, takes ...string) wire.Route {
		return read(pattern, need, h, append(takes, query.Parameters...)...)
	}
	plain := func(pattern string, need access.Permission, h http.HandlerFunc) wire.Route {
		return wire.Route{Pattern: pattern, Permission: need, Handler: h}
	}
	return []wire.Route{
		// Public.
		plain("GET /livez", access.Public, s.livez).ForNodes(),
		plain("GET /readyz", access.Public, s.readyz).ForNodes(),
		plain("GET /pkg/{name}", access.Public, s.packageFile).ForNodes(),
		{Pattern: "GET /config/v1/auth", Permission: access.Public, Handler: s.api.Handle(s.authConfig)},

		// CI systems.
		read("/api/v1/status", access.Authenticated, s.status).ForNodes(),
		read("/api/v1/cluster", access.Authenticated, s.cluster).ForNodes(),
		read("/api/v1/stats", access.ListVMs, s.stats),
		plain("GET "+api.PathWatch, access.Authenticated, s.watch), // and a permission for each kind
		list("/api/v1/vm", access.ListVMs, s.instances, "id"),
		read(api.PathWhy, access.ListVMs, s.why, "id"),
		{Pattern: "POST " + api.PathWhy, Permission: access.ListVMs, Handler: s.api.Handle(wire.Taking(s.whyNot))}, // it starts nothing
		write("POST /api/v1/vm", access.StartVM, s.startInstances),
		write("PUT /api/v1/vm", access.UpdateVM, s.updateInstance, "id"),
		write("DELETE /api/v1/vm", access.TerminateVM, s.terminateInstance, "id"),
		write("POST /api/v1/rpc/vm/restart", access.StartVM, s.restartInstance),
		list("/api/v1/node", access.ListNodes, s.nodes, "id"),
		write("DELETE /api/v1/node", access.DeleteNode, s.deleteNode, "id", "node_id"),
		write("POST /api/v1/node/config", access.ChangeNodeConfig, s.configureNode),
		write("PUT /api/v1/node/update", access.ChangeConfig, s.upgradeNodes),
		write("POST /api/v1/node/group", access.AddNodeToGroup, s.addToGroups),
		write("DELETE /api/v1/node/group", access.RemoveNodeFromGroup, s.removeFromGroups),
		read("/api/v1/group", access.GetGroups, s.groups),
		write("POST /api/v1/group", access.CreateGroup, s.createGroup),
		write("PUT /api/v1/group", access.UpdateGroup, s.updateGroup, "id"),
		write("DELETE /api/v1/group", access.DeleteGroup, s.deleteGroup, "id"),
		list("/api/v1/registry/vm", access.PassthroughList, s.templates, "id", "apiVer"),
		write("DELETE /api/v1/registry/vm", access.PassthroughDelete, s.deleteTemplate, "id"),
		write("DELETE /api/v1/registry/revert", access.PassthroughDelete, s.revertTemplate, "id", "tag", "version", "number"),
		write("DELETE /api/v1/registry/vm/remove", access.DeleteTemplateFromNodes, s.removeFromNodes, "id"),
		read("/api/v1/registry/vm/distribute", access.DistributeStatus, s.distributions, "id"),
		write("POST /api/v1/registry/vm/distribute", access.Distribute, s.distribute),
		write("DELETE /api/v1/registry/vm/distribute", access.Distribute, s.cancelDistribution, "id"),
		read("/api/v1/registry/disk", access.PassthroughDiskInfo, s.registryDisk),
		read("/api/v1/image", access.ListImages, s.images, "id"),
		write("POST /api/v1/image", access.SaveImage, s.saveImage),
		read("/api/v1/usb", access.ListNodes, s.usb),
		read("/api/v1/vlan", access.ListNodes, s.vlans),
		read("/api/v1/macaddr", access.MACAddress, s.macs, "count", "in_use", "limit", "last"),
		write("PUT /api/v1/macaddr", access.MACAddress, s.fillMACs),
		write("DELETE /api/v1/macaddr", access.MACAddress, s.purgeMACs),

		// Node agents.
		agent(api.PathAgentRegister, access.Node, s.register),
		agent(api.PathAgentUnregister, access.Node, s.unregister),
		agent(api.PathAgentSync, access.Node, s.sync),
		plain("POST "+api.PathAgentReserve, access.Node, s.reserve).ForNodes(),
		agent(api.PathAgentReport, access.Node, s.report),
	}
}
