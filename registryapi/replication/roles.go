package replication

import (
	"net/http"
	"strings"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// ReadOnly refuses pushes and deletes at a replica and says where to go: what
// changed here would be unknown to the source and could never be reconciled.
func ReadOnly(sources []string) func(http.Handler) http.Handler {
	var shown []string
	for _, s := range sources {
		base, _ := splitSource(s)
		shown = append(shown, base)
	}
	message := "this registry is a replica: push to and delete at " + strings.Join(shown, " or ")
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			reading := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
			switch {
			case reading:
			case strings.HasPrefix(r.URL.Path, "/v2/"):
				denied(w, message)
				return
			case r.URL.Path == "/registry/vm", r.URL.Path == "/registry/revert", r.URL.Path == "/registry/vm/arch":
				wire.WriteFailure(w, wire.CodeNotPermitted.Fail(message), wire.NullBody)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// WriteOnly keeps the downloads of nodes away from a push registry: it serves
// blobs to replicas alone. Manifests and lists are small, and whoever pushes
// needs them.
func WriteOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && oci.Of(r).Kind == oci.Blob && r.Header.Get(registryapi.HeaderNoPull) == "" {
			denied(w, "this registry only takes pushes: pull from one of its replicas")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func denied(w http.ResponseWriter, message string) {
	oci.NewError(http.StatusForbidden, oci.CodeDenied, message).Write(w)
}
