package server

import (
	"net/http"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Handler returns the whole API. It may be called before Run; calls wait until
// the state is loaded.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	// The words behind a handler are the parameters that its call takes.
	read := func(pattern string, h wire.HandlerFunc, takes ...string) {
		mux.Handle("GET "+pattern, s.protected(s.read(wire.Taking(h, takes...))))
	}
	write := func(pattern string, h writeFunc, takes ...string) {
		mux.Handle(pattern, s.protected(s.write(wire.Taking(h, takes...))))
	}
	agent := func(path string, h wire.HandlerFunc) { mux.Handle("POST "+path, s.protected(s.agent(h))) }

	// Public.
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)

	mux.Handle("GET /config/v1/auth", s.read(s.authConfig))

	// CI systems.
	read("/api/v1/status", s.status)
	read("/api/v1/stats", s.stats)
	read("/api/v1/cluster", s.cluster)
	read("/api/v1/vm", s.instances, "id")
	write("POST /api/v1/vm", s.startInstances)
	write("PUT /api/v1/vm", s.updateInstance, "id")
	write("DELETE /api/v1/vm", s.terminateInstance, "id")
	write("POST /api/v1/rpc/vm/restart", s.restartInstance)
	read("/api/v1/node", s.nodes, "id")
	write("DELETE /api/v1/node", s.deleteNode, "id", "node_id")
	write("POST /api/v1/node/config", s.configureNode)
	write("PUT /api/v1/node/update", s.upgradeNodes)
	write("POST /api/v1/node/group", s.addToGroups)
	write("DELETE /api/v1/node/group", s.removeFromGroups)
	read("/api/v1/group", s.groups)
	write("POST /api/v1/group", s.createGroup)
	write("PUT /api/v1/group", s.updateGroup, "id")
	write("DELETE /api/v1/group", s.deleteGroup, "id")
	read("/api/v1/registry/vm", s.templates, "id", "apiVer")
	write("DELETE /api/v1/registry/vm", s.deleteTemplate, "id")
	write("DELETE /api/v1/registry/revert", s.revertTemplate, "id", "tag", "version", "number")
	write("DELETE /api/v1/registry/vm/remove", s.removeFromNodes, "id")
	read("/api/v1/registry/vm/distribute", s.distributions, "id")
	write("POST /api/v1/registry/vm/distribute", s.distribute)
	write("DELETE /api/v1/registry/vm/distribute", s.cancelDistribution, "id")
	read("/api/v1/registry/disk", s.registryDisk)
	read("/api/v1/image", s.images, "id")
	write("POST /api/v1/image", s.saveImage)
	read("/api/v1/usb", s.usb)
	read("/api/v1/vlan", s.vlans)
	read("/api/v1/macaddr", s.macs, "count", "in_use", "limit", "last")
	write("PUT /api/v1/macaddr", s.fillMACs)
	write("DELETE /api/v1/macaddr", s.purgeMACs)
	mux.Handle("GET /pkg/{name}", s.protected(http.HandlerFunc(s.packageFile)))

	// Node agents.
	agent(api.PathAgentRegister, s.register)
	agent(api.PathAgentUnregister, s.unregister)
	agent(api.PathAgentSync, s.sync)
	mux.Handle("POST "+api.PathAgentReserve, s.protected(http.HandlerFunc(s.reserve)))
	agent(api.PathAgentReport, s.report)

	mux.Handle("/", s.api.NoSuchCall(mux, s.notFound))
	return s.outermost(s.metrics.observe(mux))
}
