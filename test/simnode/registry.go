package simnode

import (
	"encoding/json"
	"net/http"

	"github.com/ankacluster/ankacluster/registryapi"
)

// Registry answers the calls by which a controller checks templates, as a
// registry that holds one tag, "v1", of each named template would. It stores
// and serves no content.
func Registry(templates ...string) http.Handler {
	known := make(map[string]registryapi.Template)
	var list []registryapi.Template
	for _, id := range templates {
		t := registryapi.Template{ID: id, Name: id, Size: 1 << 30, Arch: "arm64", Repository: id}
		list = append(list, t)
		t.Versions = []registryapi.Version{{Tag: "v1", Images: []string{}, StateFiles: []string{}, Size: 1 << 30, Arch: "arm64",
			Digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}
		known[id] = t
	}
	mux := http.NewServeMux()
	ready := func(http.ResponseWriter, *http.Request) {} // 200
	mux.HandleFunc("GET /readyz", ready)
	mux.HandleFunc("GET /livez", ready)
	mux.HandleFunc("GET /v2/{$}", ready)
	mux.HandleFunc("GET /registry/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, "", registryapi.Status{Status: "Running", Version: "simulated"})
	})
	mux.HandleFunc("GET /registry/disk", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, "", registryapi.Disk{Free: 1 << 40, Total: 2 << 40})
	})
	mux.HandleFunc("GET /registry/v2/vm", func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		if id == "" {
			answer(w, "", list)
			return
		}
		t, ok := known[id]
		if !ok {
			answer(w, "VM not in the registry", nil)
			return
		}
		answer(w, "", t)
	})
	return mux
}

func answer(w http.ResponseWriter, failure string, body any) {
	status := "OK"
	if failure != "" {
		status = "FAIL"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "message": failure, "body": body}) // the client went away
}
