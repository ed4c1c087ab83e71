// Package server is the registry: the OCI distribution API, the template REST
// API over the same storage, central logs, and the care of the store.
//
//	srv, err := server.New(server.Config{Root: "/var/lib/anka-registry", ListenAddr: ":8089"}, log)
//	err = srv.Run(ctx) // serves until ctx ends, then drains
//
// Handler alone mounts the registry on another listener; Run is then called
// with an empty ListenAddr for the background care. Servers on one directory
// need nothing else in common.
package server
