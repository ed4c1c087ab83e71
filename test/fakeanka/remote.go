package main

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/registryapi"
)

func stableUUID(s string) string { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(s)).String() }

func (r remote) rest() *registryapi.Client { return registryapi.NewClient(r.url, http.DefaultClient) }

func listRemote(ctx context.Context, r remote) (any, error) {
	list, err := r.rest().Templates(ctx)
	if err != nil {
		return nil, failf("registry %s: %v", r.url, err)
	}
	out := []any{}
	for _, t := range list {
		full, err := r.rest().Template(ctx, t.ID)
		if err != nil {
			continue // deleted meanwhile
		}
		latest := ""
		if n := len(full.Versions); n > 0 {
			latest = full.Versions[n-1].Tag
		}
		out = append(out, map[string]any{"id": t.ID, "uuid": t.ID, "name": t.Name, "latest": latest})
	}
	return out, nil
}

// findRemote returns the template with that id or name.
func findRemote(ctx context.Context, r remote, args []string) (registryapi.Template, error) {
	if len(args) == 0 {
		return registryapi.Template{}, &ankaError{Message: "missing argument VM_ID", Type: "UsageError", exit: 2}
	}
	list, err := r.rest().Templates(ctx)
	if err != nil {
		return registryapi.Template{}, failf("registry %s: %v", r.url, err)
	}
	for _, t := range list {
		if t.ID == args[0] || t.Name == args[0] {
			return r.rest().Template(ctx, t.ID)
		}
	}
	return registryapi.Template{}, notFound(args[0])
}

func showRemote(ctx context.Context, r remote, args []string) (any, error) {
	t, err := findRemote(ctx, r, args)
	return t, err
}

func revertRemote(ctx context.Context, e *env, r remote, args []string) (any, error) {
	o, err := e.parse("registry revert", args, false)
	if err != nil {
		return nil, err
	}
	t, err := findRemote(ctx, r, o.args)
	if err != nil {
		return nil, err
	}
	if err := r.rest().Revert(ctx, t.ID, registryapi.RevertTarget{Tag: o.value("tag")}); err != nil {
		return nil, failf("registry %s: %v", r.url, err)
	}
	return nil, nil
}
