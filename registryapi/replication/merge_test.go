package replication

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ankacluster/ankacluster/registryapi"
)

func tag(name, digest string, order int64) registryapi.TagState {
	return registryapi.TagState{Tag: name, Digest: digest, Order: order}
}

func state(tags ...registryapi.TagState) registryapi.RepositoryState {
	st := registryapi.RepositoryState{Name: "r", Tags: tags}
	for _, t := range tags {
		st.Manifests = append(st.Manifests, registryapi.ManifestState{Digest: t.Digest})
	}
	return st
}

func TestMergeDoesNotDependOnTheOrderOfSources(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var states []registryapi.RepositoryState
		for range 1 + rng.IntN(4) {
			st := state()
			st.ID, st.Created = string(rune('a'+rng.IntN(3))), time.Unix(rng.Int64N(3), 0)
			for _, name := range []string{"v1", "v2", "v3"} {
				if rng.IntN(3) > 0 {
					st.Tags = append(st.Tags, tag(name, string(rune('A'+rng.IntN(4))), rng.Int64N(4)))
				}
			}
			states = append(states, st)
		}
		want := merge("r", states)
		rng.Shuffle(len(states), func(i, j int) { states[i], states[j] = states[j], states[i] })
		if diff := cmp.Diff(want, merge("r", states), cmp.AllowUnexported(wanted{})); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	none := []registryapi.RepositoryState{}
	for _, tc := range []struct {
		name     string
		want     registryapi.RepositoryState
		have     []registryapi.TagState
		complete []string
		before   []registryapi.RepositoryState
		plan     plan
	}{
		{"nothing to do", state(tag("v1", "A", 1)), []registryapi.TagState{tag("v1", "A", 1)}, []string{"A"}, none, plan{}},
		{"content is missing", state(tag("v1", "A", 1), tag("v2", "B", 2)), nil, nil, none, plan{copies: []string{"B", "A"}}},
		{"content is here", state(tag("v1", "A", 1)), nil, []string{"A"}, none, plan{putTags: []registryapi.TagState{tag("v1", "A", 1)}}},
		{"the tag moved", state(tag("v1", "B", 2)), []registryapi.TagState{tag("v1", "A", 1)}, []string{"A", "B"},
			[]registryapi.RepositoryState{state(tag("v1", "A", 1))},
			plan{putTags: []registryapi.TagState{tag("v1", "B", 2)}, deleteManifests: []string{"A"}}},
		{"the tag moved and its content is missing: the old one stays", state(tag("v1", "B", 2)), []registryapi.TagState{tag("v1", "A", 1)}, []string{"A"},
			[]registryapi.RepositoryState{state(tag("v1", "A", 1))}, plan{copies: []string{"B"}, deleteManifests: []string{"A"}}},
		{"deleted", state(), []registryapi.TagState{tag("v1", "A", 1)}, []string{"A"},
			[]registryapi.RepositoryState{state(tag("v1", "A", 1))}, plan{deleteTags: []string{"v1"}, deleteManifests: []string{"A"}}},
		{"never copied, so not deleted", state(), []registryapi.TagState{tag("own", "A", 1)}, []string{"A"}, none, plan{}},
		{"damaged content is copied again", state(tag("v1", "A", 1)), []registryapi.TagState{tag("v1", "A", 1)}, nil, none, plan{copies: []string{"A"}}},
	} {
		have := local{tags: map[string]registryapi.TagState{}, complete: func(d string) bool { return slices.Contains(tc.complete, d) }}
		for _, h := range tc.have {
			have.tags[h.Tag] = h
		}
		got := decide(merge("r", []registryapi.RepositoryState{tc.want}), have, tc.before)
		if diff := cmp.Diff(tc.plan, got, cmp.AllowUnexported(plan{})); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}
