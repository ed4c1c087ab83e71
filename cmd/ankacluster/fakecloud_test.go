package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// fakeCloud answers what a node needs to join, and gives it nothing to do.
func fakeCloud(w http.ResponseWriter, r *http.Request) {
	answer := func(body any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "OK", "message": "", "body": body}) // the caller went away
	}
	self := "http://" + r.Host
	switch r.URL.Path {
	case "/livez", "/readyz":
	case "/api/v1/status":
		answer(controllerapi.Status{Status: "Running", Version: "1.2.3", RegistryAddress: self, RegistryStatus: "Running", License: "enterprise plus"})
	case "/registry/status":
		answer(map[string]string{"status": "Running", "version": "1.2.3"})
	case "/api/v1/cluster":
		answer(controllerapi.Cluster{CloudID: "fake"})
	case "/api/v1/node":
		answer([]controllerapi.Node{{NodeID: controllerapi.NodeID(r.URL.Query().Get("id")), State: controllerapi.NodeActive}})
	case controllerapi.PathAgentRegister:
		answer(controllerapi.RegisterResponse{HeartbeatIntervalMS: 1000, Cluster: controllerapi.Cluster{CloudID: "fake"}})
	case controllerapi.PathAgentSync:
		answer(controllerapi.SyncResponse{HeartbeatIntervalMS: 1000})
	case controllerapi.PathAgentReserve:
		select {
		case <-r.Context().Done():
		case <-time.After(time.Second):
		}
		answer(controllerapi.ReserveResponse{})
	case controllerapi.PathAgentUnregister, controllerapi.PathAgentReport:
		answer(struct{}{})
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"status":"FAIL","message":"no such call"}`)
	}
}
