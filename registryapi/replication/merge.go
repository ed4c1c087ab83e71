package replication

import (
	"cmp"
	"maps"
	"slices"

	"github.com/ankacluster/ankacluster/registryapi"
)

// wanted is what a repository should hold.
type wanted struct {
	registryapi.RepositoryState
	manifests map[string]registryapi.ManifestState // all of them, by digest
}

// merge returns what a repository should hold, given what each source has. It
// does not depend on the order of states.
func merge(name string, states []registryapi.RepositoryState) wanted {
	w := wanted{RepositoryState: registryapi.RepositoryState{Name: name}, manifests: make(map[string]registryapi.ManifestState)}
	tags := make(map[string]registryapi.TagState)
	for _, st := range states {
		for _, m := range st.Manifests {
			if old, ok := w.manifests[m.Digest]; !ok || m.Pushed.Before(old.Pushed) {
				w.manifests[m.Digest] = m
			}
		}
		for _, t := range st.Tags {
			if old, ok := tags[t.Tag]; !ok || wins(t, old) {
				tags[t.Tag] = t
			}
		}
		// The oldest repository of that name gives the template its id.
		if st.ID != "" && !st.Created.IsZero() && (w.ID == "" || older(st, w.RepositoryState)) {
			w.ID, w.Created, w.Arch = st.ID, st.Created, st.Arch
		}
	}
	w.Tags = slices.SortedFunc(maps.Values(tags), func(a, b registryapi.TagState) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Tag, b.Tag))
	})
	return w
}

// withMissing adds to an incomplete state what the source had before: it may be
// there still.
func withMissing(st, before registryapi.RepositoryState) registryapi.RepositoryState {
	for _, t := range before.Tags {
		if !slices.ContainsFunc(st.Tags, func(x registryapi.TagState) bool { return x.Tag == t.Tag }) {
			st.Tags = append(st.Tags, t)
		}
	}
	for _, m := range before.Manifests {
		if !slices.ContainsFunc(st.Manifests, func(x registryapi.ManifestState) bool { return x.Digest == m.Digest }) {
			st.Manifests = append(st.Manifests, m)
		}
	}
	return st
}

func wins(a, b registryapi.TagState) bool {
	return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Digest, b.Digest)) > 0
}

func older(a, b registryapi.RepositoryState) bool {
	if !a.Created.Equal(b.Created) {
		return a.Created.Before(b.Created)
	}
	return a.ID < b.ID
}

func (w wanted) empty() bool { return len(w.Tags) == 0 && len(w.manifests) == 0 }

// local is what the store has of a repository.
type local struct {
	tags map[string]registryapi.TagState
	// complete reports whether the store can serve the manifest with all that
	// it names.
	complete func(digest string) bool
}

// plan is what is to be done to a repository, in this order: deletes, puts;
// copies take their time beside it and end in another plan.
type plan struct {
	deleteTags      []string
	putTags         []registryapi.TagState
	deleteManifests []string
	copies          []string // digests, those of the newest tags first
}

// decide compares. before is what the sources held when they were last
// followed: only what was in it may be deleted.
func decide(w wanted, have local, before []registryapi.RepositoryState) plan {
	var p plan
	want := make(map[string]bool)
	asked := make(map[string]bool)
	for _, t := range slices.Backward(w.Tags) {
		want[t.Tag] = true
		if !have.complete(t.Digest) {
			if !asked[t.Digest] {
				p.copies = append(p.copies, t.Digest)
				asked[t.Digest] = true
			}
			continue
		}
		if old, ok := have.tags[t.Tag]; !ok || old.Digest != t.Digest || old.Order != t.Order {
			p.putTags = append(p.putTags, t)
		}
	}
	slices.Reverse(p.putTags) // oldest first, as they were pushed
	for _, d := range slices.Sorted(maps.Keys(w.manifests)) {
		if !asked[d] && !have.complete(d) {
			p.copies = append(p.copies, d)
		}
	}
	gone := make(map[string]bool)
	for _, st := range before {
		for _, t := range st.Tags {
			if _, here := have.tags[t.Tag]; here && !want[t.Tag] && !gone[t.Tag] {
				p.deleteTags = append(p.deleteTags, t.Tag)
				gone[t.Tag] = true
			}
		}
		for _, m := range st.Manifests {
			if _, ok := w.manifests[m.Digest]; !ok && !gone[m.Digest] {
				p.deleteManifests = append(p.deleteManifests, m.Digest)
				gone[m.Digest] = true
			}
		}
	}
	return p
}
