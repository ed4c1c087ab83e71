package contenttest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

var manifests = map[string]func(*testing.T, store){
	"a manifest is what was pushed": func(t *testing.T, s store) {
		old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		m := image("{}", "layer")
		m.Pushed = old
		raw := bytes.Clone(m.Raw)
		s.blob("vm", "{}")
		s.blob("vm", "layer")
		s.put("vm", m)
		clear(m.Raw) // the caller's
		got, err := s.Manifest("vm", m.Digest)
		if err != nil || got.Digest != m.Digest || got.MediaType != m.MediaType || !bytes.Equal(got.Raw, raw) || !got.Pushed.Equal(old) {
			t.Errorf("got %+v, %v", got, err)
		}
		before := time.Now().Add(-time.Second)
		if got, err = s.Manifest("vm", s.push("vm", "other").Digest); err != nil || got.Pushed.Before(before) {
			t.Errorf("pushed at %s, %v", got.Pushed, err)
		}
		if all, err := s.Manifests("vm"); err != nil || len(all) != 2 || !slices.Contains(all, m.Digest) {
			t.Errorf("manifests: %v, %v", all, err)
		}
		if _, err := s.Manifest("other", m.Digest); !errors.Is(err, content.ErrManifestUnknown) {
			t.Errorf("of another repository: %v", err)
		}
	},
	"a manifest that is not whole is refused": func(t *testing.T, s store) {
		s.blob("vm", "{}")
		s.blob("elsewhere", "layer")
		wrong := image("{}", "layer")
		wrong.Digest = digest.FromString("other")
		child := s.push("elsewhere", "x")
		size := manifestOf(ispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":3},"layers":[]}`, digest.FromString("{}"))
		for what, c := range map[string]struct {
			m    content.Manifest
			want error
		}{
			"a layer is missing":   {image("{}", "layer"), content.ErrBlobMissing},
			"a config is missing":  {image("other", "{}"), content.ErrBlobMissing},
			"a child is missing":   {indexOf(child), content.ErrBlobMissing},
			"a size is another":    {size, content.ErrManifestInvalid},
			"it is no manifest":    {manifestOf(ispec.MediaTypeImageManifest, `[`), content.ErrManifestInvalid},
			"its digest is wrong":  {wrong, content.ErrDigestMismatch},
			"it names no digest":   {manifestOf(ispec.MediaTypeImageIndex, `{"manifests":[{"digest":"x"}]}`), content.ErrManifestInvalid},
			"it is of other types": {manifestOf(ispec.MediaTypeImageIndex, `{"config":{},"layers":[]}`), content.ErrManifestInvalid},
		} {
			s.refused(what, s.PutManifest("vm", c.m, "v1"), c.want)
			_, err := s.Manifest("vm", c.m.Digest)
			s.refused(what+", but stored", err, content.ErrManifestUnknown)
		}
		if got := s.tagged("vm"); got != "" {
			t.Errorf("tags of what was refused: %s", got)
		}
		s.refused("complete", content.Complete(s, "vm", image("{}", "layer")), content.ErrManifestUnknown)
		s.refused("complete index", content.Complete(s, "vm", indexOf(child)), content.ErrManifestUnknown)
	},
	"what an index needs stays": func(t *testing.T, s store) {
		child := s.push("vm", "layer", "child")
		index := s.put("vm", indexOf(child), "v1")
		s.ok(content.Complete(s, "vm", index))
		s.refused("delete of the child", s.DeleteManifest("vm", child.Digest), content.ErrInUse)
		_, err := s.Manifest("vm", child.Digest)
		s.ok(err)
		c, err := content.ParseManifest(index.MediaType, index.Raw)
		s.ok(err)
		sizes := make(map[digest.Digest]int64)
		if content.Sizes(s, "vm", c, sizes); len(sizes) != 3 || sizes[digest.FromString("layer")] != 5 || sizes[child.Digest] != int64(len(child.Raw)) {
			t.Errorf("sizes: %v", sizes)
		}
		s.ok(s.DeleteManifest("vm", index.Digest))
		s.ok(s.DeleteManifest("vm", child.Digest))
	},
	"a manifest is deleted with its tags": func(t *testing.T, s store) {
		m := s.push("vm", "layer", "v1", "v2")
		s.push("vm", "other", "v3")
		s.ok(s.DeleteManifest("vm", m.Digest))
		if got := s.tagged("vm"); got != "v3" {
			t.Errorf("tags: %s", got)
		}
		_, err := s.Manifest("vm", m.Digest)
		s.refused("read", err, content.ErrManifestUnknown)
		s.refused("delete again", s.DeleteManifest("vm", m.Digest), content.ErrManifestUnknown)
		_, err = s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour})
		s.ok(err)
		s.has("vm", "layer") // a pull may go on
		s.put("vm", m, "v1")
		if got := s.tagged("vm"); got != "v3 v1" {
			t.Errorf("pushed again: %s", got)
		}
	},
	"referrers are found by their subject": func(t *testing.T, s store) {
		subject := image("{}", "never pushed").Digest
		s.blob("vm", "{}")
		a, b := s.put("vm", about(subject, "a/a")), s.put("vm", about(subject, "b/b"))
		s.put("vm", about(digest.FromString("another"), "a/a"))
		find := func(artifactType string) (found []digest.Digest) {
			all, err := s.Referrers("vm", subject, artifactType)
			s.ok(err)
			for _, d := range all {
				if d.Size == 0 || d.MediaType == "" || d.ArtifactType == "" {
					t.Errorf("descriptor %+v", d)
				}
				found = append(found, d.Digest)
			}
			return found
		}
		both := []digest.Digest{a.Digest, b.Digest}
		slices.Sort(both)
		if got := find(""); !slices.Equal(got, both) {
			t.Errorf("all: got %v, want %v", got, both)
		}
		if got := find("a/a"); !slices.Equal(got, []digest.Digest{a.Digest}) {
			t.Errorf("of one type: got %v", got)
		}
		s.ok(s.DeleteManifest("vm", a.Digest))
		if got := find("a/a"); len(got) > 0 {
			t.Errorf("deleted: got %v", got)
		}
	},
}

var tags = map[string]func(*testing.T, store){
	"tags are in the order of their pushes": func(t *testing.T, s store) {
		one := s.push("vm", "one", "v1", "v2")
		s.push("vm", "two", "v3")
		if got := s.tagged("vm"); got != "v1 v2 v3" {
			t.Fatalf("got %s", got)
		}
		before, err := s.Tag("vm", "v1")
		s.ok(err)
		if before.Digest != one.Digest || before.MediaType != one.MediaType || before.Size != int64(len(one.Raw)) || before.Pushed.IsZero() {
			t.Errorf("got %+v", before)
		}
		_, cursor, _, err := s.Changes("", 1)
		s.ok(err)
		s.put("vm", one, "v1") // a repeat
		if after, err := s.Tag("vm", "v1"); err != nil || after.Order != before.Order || !after.Pushed.Equal(before.Pushed) {
			t.Errorf("repeated: got %+v, %v", after, err)
		}
		if told, _, _, err := s.Changes(cursor, 10); err != nil || len(told) > 0 {
			t.Errorf("repeated: told of %+v, %v", told, err)
		}
		s.push("vm", "two", "v1") // it moves
		moved, err := s.Tag("vm", "v1")
		if err != nil || moved.Order <= before.Order || moved.Digest == before.Digest || s.tagged("vm") != "v2 v3 v1" {
			t.Errorf("moved: got %+v, %v, tags %s", moved, err, s.tagged("vm"))
		}
		_, err = s.Manifest("vm", one.Digest) // v2 has it
		s.ok(err)
	},
	"a copy keeps order and time": func(t *testing.T, s store) {
		old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		m := s.push("vm", "one", "new")
		for i, name := range []string{"third", "second", "first"} {
			s.ok(s.PutTag("vm", content.Tag{Name: name, Digest: m.Digest, Order: int64(30 - i), Pushed: old}))
		}
		if got := s.tagged("vm"); got != "first second third new" {
			t.Errorf("got %s", got)
		}
		s.ok(s.PutTag("vm", content.Tag{Name: "first", Digest: m.Digest, Order: 40, Pushed: old}))
		got, err := s.Tag("vm", "first")
		if err != nil || got.Order != 40 || !got.Pushed.Equal(old) || s.tagged("vm") != "second third first new" {
			t.Errorf("got %+v, %v, tags %s", got, err, s.tagged("vm"))
		}
		s.refused("tag of what is not there", s.PutTag("vm", content.Tag{Name: "x", Digest: digest.FromString("x")}), content.ErrManifestUnknown)
		s.refused("tag of another repository's", s.PutTag("other", content.Tag{Name: "x", Digest: m.Digest}), content.ErrManifestUnknown)
	},
	"a tag is deleted": func(t *testing.T, s store) {
		m := s.push("vm", "one", "v1", "v2")
		s.RecordPull("vm", "v1", time.Now())
		s.ok(s.DeleteTag("vm", "v1"))
		s.refused("delete again", s.DeleteTag("vm", "v1"), content.ErrTagUnknown)
		s.refused("delete in a repository that is not there", s.DeleteTag("other", "v1"), content.ErrTagUnknown)
		_, err := s.Tag("vm", "v1")
		s.refused("read", err, content.ErrTagUnknown)
		s.ok(s.DeleteTag("vm", "v2"))
		if got, err := s.Manifest("vm", m.Digest); err != nil || content.Complete(s, "vm", got) != nil {
			t.Errorf("its manifest: %v", err)
		}
		s.put("vm", m, "v1")
		if at := s.LastPull("vm", "v1"); !at.IsZero() {
			t.Errorf("the new tag was pulled at %s", at)
		}
	},
	"latest is the newest unless it was pushed": func(t *testing.T, s store) {
		_, err := content.Resolve(s, "vm", "latest")
		s.refused("of nothing", err, content.ErrTagUnknown)
		for _, c := range []struct{ push, want string }{{"v1", "v1"}, {"v2", "v2"}, {"latest", "latest"}, {"v3", "latest"}} {
			s.push("vm", "layer of "+c.push, c.push)
			if got, err := content.Resolve(s, "vm", "latest"); err != nil || got.Name != c.want {
				t.Errorf("after %s: got %s, %v", c.push, got.Name, err)
			}
		}
	},
	"tags pushed at once all stay": func(t *testing.T, s store) {
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 10 {
					name := fmt.Sprintf("w%d-%d", w, i)
					if _, err := pushImage(s, "vm", name, name); err != nil {
						t.Errorf("push %s: %v", name, err)
					}
				}
			})
		}
		wg.Wait()
		all, err := s.Tags("vm")
		if err != nil || len(all) != 40 {
			t.Fatalf("%d tags, %v", len(all), err)
		}
		for i, tag := range all {
			if i > 0 && all[i-1].Order >= tag.Order {
				t.Errorf("%s has order %d after %d", tag.Name, tag.Order, all[i-1].Order)
			}
			if m, err := s.Manifest("vm", tag.Digest); err != nil || content.Complete(s, "vm", m) != nil {
				t.Errorf("%s: %v", tag.Name, err)
			}
		}
	},
	"pulls are noted": func(t *testing.T, s store) {
		s.push("vm", "one", "v1", "v2")
		now := time.Now().Add(-time.Minute).Truncate(time.Second)
		for _, at := range []time.Time{now, now.Add(time.Second)} {
			s.RecordPull("vm", "v1", at)
			if got := s.LastPull("vm", "v1"); !got.Equal(at) {
				t.Errorf("got %s, want %s", got, at)
			}
		}
		if got := s.LastPull("vm", "v2"); !got.IsZero() {
			t.Errorf("never pulled: %s", got)
		}
		if s.TagsChanged("vm").IsZero() || !s.TagsChanged("other").IsZero() {
			t.Errorf("tags changed at %s and %s", s.TagsChanged("vm"), s.TagsChanged("other"))
		}
	},
}

var repositories = map[string]func(*testing.T, store){
	"repositories are listed": func(t *testing.T, s store) {
		if all, err := s.Repositories(); err != nil || all == nil || len(all) != 0 {
			t.Errorf("of an empty store: %#v, %v", all, err)
		}
		s.push("team/b", "x", "v1")
		s.push("a", "x", "v1")
		s.blob("team/a", "x")
		all, err := s.Repositories()
		if want := []string{"a", "team/a", "team/b"}; err != nil || !slices.Equal(all, want) {
			t.Errorf("got %q, %v, want %q", all, err, want)
		}
		if !s.RepositoryExists("team/a") || s.RepositoryExists("team") {
			t.Error("team/a exists, and team does not")
		}
		if tags, err := s.Tags("nowhere"); err != nil || len(tags) > 0 {
			t.Errorf("of none: %v, %v", tags, err)
		}
	},
	"a template keeps its id": func(t *testing.T, s store) {
		if got := s.Meta("vm"); got.ID != content.RepositoryID("vm") || !got.Created.IsZero() {
			t.Errorf("of nothing: %+v", got)
		}
		const id = "1f1a6b5e-0a0b-4c0d-8e0f-101112131415"
		config := `{"name":"vm","uuid":"` + strings.ToUpper(id) + `"}`
		s.blob("vm", config)
		s.blob("vm", "layer")
		s.put("vm", image(config, "layer"), "v1")
		first := s.Meta("vm")
		if first.ID != id || first.Created.IsZero() {
			t.Errorf("got %+v", first)
		}
		s.push("vm", "layer", "v2")
		s.ok(s.DeleteTag("vm", "v1"))
		if got := s.Meta("vm"); got.ID != id || !got.Created.Equal(first.Created) {
			t.Errorf("later: %+v", got)
		}
		first.Arch = "arm64"
		s.ok(s.SetMeta("vm", first))
		if got := s.Meta("vm"); got.ID != id || got.Arch != "arm64" {
			t.Errorf("set: %+v", got)
		}
	},
	"a repository is deleted": func(t *testing.T, s store) {
		s.refused("of nothing", s.DeleteRepository("vm"), content.ErrRepositoryUnknown)
		child := s.push("vm", "one", "v1")
		index := s.put("vm", indexOf(child), "v2")
		s.put("vm", about(index.Digest, "a/a"))
		s.push("other", "one", "v1")
		s.ok(s.SetMeta("vm", content.Meta{ID: "1f1a6b5e-0a0b-4c0d-8e0f-101112131415"}))
		s.ok(s.DeleteRepository("vm"))
		if all, err := s.Manifests("vm"); err != nil || len(all) > 0 || s.tagged("vm") != "" {
			t.Errorf("left: %v, %v, tags %s", all, err, s.tagged("vm"))
		}
		if got := s.Meta("vm").ID; got != content.RepositoryID("vm") {
			t.Errorf("its id is left: %s", got)
		}
		if err := s.DeleteRepository("vm"); err != nil && !errors.Is(err, content.ErrRepositoryUnknown) {
			t.Errorf("again: %v", err)
		}
		s.collect()
		if s.RepositoryExists("vm") {
			t.Error("it is still there")
		}
		s.refused("after all", s.DeleteRepository("vm"), content.ErrRepositoryUnknown)
		s.has("other", "one")
	},
	"a push meets a deletion": func(t *testing.T, s store) {
		stop := make(chan struct{})
		var deleting sync.WaitGroup
		deleting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.DeleteRepository("vm"); err != nil && !errors.Is(err, content.ErrRepositoryUnknown) {
					t.Errorf("delete: %v", err)
				}
				if _, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour}); err != nil {
					t.Errorf("collect: %v", err)
				}
			}
		})
		for i := range 30 {
			_, err := pushImage(s, "vm", fmt.Sprint(i), "v1")
			if err != nil && !errors.Is(err, content.ErrBlobMissing) && !errors.Is(err, content.ErrManifestUnknown) {
				t.Errorf("push: %v", err)
			}
		}
		close(stop)
		deleting.Wait()
		m := s.push("vm", "last", "v2")
		s.ok(content.Complete(s, "vm", m))
		tags, err := s.Tags("vm")
		s.ok(err)
		for _, tag := range tags {
			_, err := s.Manifest("vm", tag.Digest)
			s.ok(err)
		}
	},
	"a revert removes what came later": func(t *testing.T, s store) {
		s.refused("of nothing", s.Revert("vm", "v1"), content.ErrTagUnknown)
		one, two, three := s.push("vm", "one", "v1"), s.push("vm", "two", "v2"), s.push("vm", "three", "v3", "latest")
		s.put("vm", one, "again")
		s.ok(s.Revert("vm", "v2"))
		if got := s.tagged("vm"); got != "v1" {
			t.Errorf("tags: %s", got)
		}
		for _, m := range []content.Manifest{two, three} {
			_, err := s.Manifest("vm", m.Digest)
			s.refused("manifest of a tag that is gone", err, content.ErrManifestUnknown)
		}
		_, err := s.Manifest("vm", one.Digest)
		s.ok(err)
		s.refused("again", s.Revert("vm", "v2"), content.ErrTagUnknown)
		s.push("alias", "one", "latest")
		s.push("alias", "two", "v1")
		for _, repo := range []string{"vm", "alias"} {
			s.ok(s.SetMeta(repo, content.Meta{ID: "1f1a6b5e-0a0b-4c0d-8e0f-101112131415"}))
			s.ok(s.Revert(repo, "v1"))
			if got := s.Meta(repo).ID; got != content.RepositoryID(repo) {
				t.Errorf("%s has no tag and the id %s", repo, got)
			}
			s.collect()
			if s.RepositoryExists(repo) {
				t.Errorf("%s has no tag and is there", repo)
			}
		}
	},
}
