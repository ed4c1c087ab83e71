package contenttest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// end returns the present end of the journal.
func (s store) end() content.Cursor {
	s.t.Helper()
	_, end, _, err := s.Changes("", 1)
	s.ok(err)
	return end
}

var journal = map[string]func(*testing.T, store){
	"changes are told in their order": func(t *testing.T, s store) {
		for _, cursor := range []content.Cursor{"", "0", "nonsense"} {
			if told, next, reset, err := s.Changes(cursor, 10); err != nil || reset || len(told) > 0 || next == "" {
				t.Errorf("of an empty store: %v, %q, reset %t, %v", told, next, reset, err)
			}
		}
		zero := s.push("vm", "zero", "v0")
		cursor := s.end()
		one := s.push("vm", "one", "v1", "v2")
		of := map[string]string{zero.Digest.String(): "zero", one.Digest.String(): "one"}
		s.ok(s.DeleteTag("vm", "v1"))
		s.ok(s.SetMeta("vm", s.Meta("vm")))
		s.ok(s.DeleteManifest("vm", one.Digest))
		s.ok(s.DeleteRepository("vm"))
		want := "manifest_put one, tag_put v1 one, tag_put v2 one, tag_deleted v1 one, meta_put, " +
			"tag_deleted v2 one, manifest_deleted one, tag_deleted v0 zero, manifest_deleted zero, repository_deleted"
		for _, step := range []int{1, 3, 100} {
			var got []string
			at := cursor
			for {
				told, next, reset, err := s.Changes(at, step)
				if err != nil || reset || len(told) > step {
					t.Fatalf("%d changes, reset %t, %v", len(told), reset, err)
				}
				if len(told) == 0 {
					break
				}
				for _, c := range told {
					if c.Repository != "vm" || c.Time.IsZero() || c.Kind == registryapi.TagPut && c.Order == 0 {
						t.Errorf("told %+v", c)
					}
					got = append(got, strings.Join(slices.DeleteFunc([]string{c.Kind, c.Tag, of[c.Digest]}, func(s string) bool { return s == "" }), " "))
				}
				at = next
			}
			if text := strings.Join(got, ", "); text != want {
				t.Errorf("%d at a time: got\n%s\nwant\n%s", step, text, want)
			}
			if at != s.end() {
				t.Errorf("%d at a time: ends at %q, not at %q", step, at, s.end())
			}
		}
	},
	"an unknown place is the end": func(t *testing.T, s store) {
		s.push("vm", "one", "v1")
		end := s.end()
		for _, cursor := range []content.Cursor{"", "0", "-", "nonsense", "a-1-1", end + "0", end + "x", "x" + end} {
			if told, next, reset, err := s.Changes(cursor, 10); err != nil || !reset || len(told) > 0 || next != end {
				t.Errorf("%q: %v, %q, reset %t, %v, want %q", cursor, told, next, reset, err, end)
			}
		}
		if told, next, reset, err := s.Changes(end, 10); err != nil || reset || len(told) > 0 || next != end {
			t.Errorf("the end: %v, %q, reset %t, %v", told, next, reset, err)
		}
		if told, next, _, err := s.Changes(end, 0); err != nil || len(told) > 0 || next != end {
			t.Errorf("no change: %v, %q, %v", told, next, err)
		}
	},
	"who waits is told": func(t *testing.T, s store) {
		m := s.push("vm", "one", "v1")
		changed := s.Changed()
		select {
		case <-changed:
			t.Error("told of nothing")
		default:
		}
		s.put("vm", m, "v2")
		<-changed
		if n, err := s.Settle(); n != 0 || err != nil {
			t.Errorf("settled %d, %v", n, err)
		}
	},
	"a follower misses nothing": func(t *testing.T, s store) {
		s.push("vm", "zero", "v0")
		at := s.end()
		var writers sync.WaitGroup
		const each = 8
		for w := range 3 {
			writers.Go(func() {
				for i := range each {
					tag := fmt.Sprintf("w%d-%d", w, i)
					_, err := pushImage(s, "vm", tag, tag)
					if err := errors.Join(err, s.DeleteTag("vm", tag)); err != nil {
						t.Errorf("%s: %v", tag, err)
					}
				}
			})
		}
		put, deleted := make(map[string]int), 0
		for deleted < 3*each {
			changed := s.Changed()
			told, next, reset, err := s.Changes(at, 2)
			if err != nil || reset {
				t.Fatalf("reset %t, %v", reset, err)
			}
			for _, c := range told {
				switch c.Kind {
				case registryapi.TagPut:
					put[c.Tag]++
				case registryapi.TagDeleted:
					if deleted++; put[c.Tag] != 1 {
						t.Errorf("%s was put %d times before it was deleted", c.Tag, put[c.Tag])
					}
				}
			}
			if at = next; len(told) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-t.Context().Done():
				t.Fatal(t.Context().Err())
			}
		}
		writers.Wait()
	},
	"what was done is noted": func(t *testing.T, s store) {
		n := content.Note{Kind: "delete", Key: []string{"vm", "v1"}, What: "a word"}
		other := content.Note{Kind: "delete", Key: []string{"vm", "../v1"}}
		s.NoteDone(n)
		if what, ok := s.Done(content.Note{Kind: n.Kind, Key: n.Key}); !ok || what != "a word" {
			t.Errorf("got %q, %t", what, ok)
		}
		if what, ok := s.Done(other); ok {
			t.Errorf("of another: %q", what)
		}
		s.NoteDone(other)
		s.ForgetDone(n)
		if _, ok := s.Done(n); ok {
			t.Error("it was not forgotten")
		}
		if _, ok := s.Done(other); !ok {
			t.Error("another was forgotten")
		}
	},
	"documents are kept": func(t *testing.T, s store) {
		top, below := s.Documents(), s.Documents("own", "below")
		if names, err := below.Names(); err != nil || len(names) > 0 {
			t.Errorf("names: %q, %v", names, err)
		}
		_, err := below.Read("a.json")
		s.refused("read", err, fs.ErrNotExist)
		s.ok(below.Make())
		for _, data := range []string{"first, longer", "second"} {
			s.ok(below.Write("a.json", []byte(data)))
			s.ok(below.WriteSoon("b.json", []byte(data)))
			for _, name := range []string{"a.json", "b.json"} {
				if got, err := below.Read(name); err != nil || string(got) != data {
					t.Errorf("%s: got %q, %v", name, got, err)
				}
			}
		}
		_, err = top.Read("a.json")
		s.refused("read in another folder", err, fs.ErrNotExist)
		names, err := s.Documents("own", "below").Names()
		if slices.Sort(names); err != nil || !slices.Equal(names, []string{"a.json", "b.json"}) {
			t.Errorf("names: %q, %v", names, err)
		}
		for range 2 {
			s.ok(below.Remove("a.json"))
		}
		_, err = below.Read("a.json")
		s.refused("read of what was removed", err, fs.ErrNotExist)
		s.ok(top.Write("a.json", nil))
		if got, err := top.Read("a.json"); err != nil || len(got) > 0 || top.Place() == "" || top.Place() == below.Place() {
			t.Errorf("got %q, %v in %q", got, err, top.Place())
		}
	},
	"a lock is held by one": func(t *testing.T, s store) {
		docs := s.Documents("own")
		release, err := docs.Lock(t.Context(), "lock", time.Millisecond)
		s.ok(err)
		other, err := docs.Lock(t.Context(), "other", time.Millisecond)
		s.ok(err)
		other()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = docs.Lock(ctx, "lock", time.Millisecond)
		s.refused("while it is held", err, context.Canceled)
		got := make(chan error)
		go func() {
			release, err := docs.Lock(t.Context(), "lock", time.Millisecond)
			if err == nil {
				release()
			}
			got <- err
		}()
		release()
		s.ok(<-got)
	},
}

var care = map[string]func(*testing.T, store){
	"the collector takes what nothing refers to": func(t *testing.T, s store) {
		m := s.push("vm", "tagged", "v1")
		s.blob("vm", "garbage")
		all := int64(len("{}") + len("tagged") + len("garbage") + len(m.Raw))
		for what, opt := range map[string]content.CollectOptions{
			"young":       {Grace: time.Hour},
			"only looked": {DryRun: true},
			"kept":        {Keep: func(repo string, d digest.Digest) bool { return repo == "vm" && d == digest.FromString("garbage") }},
		} {
			if _, err := s.Collect(t.Context(), opt); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			s.has("vm", "garbage")
		}
		if sum, err := s.CountUsage(); err != nil || sum != all {
			t.Errorf("%d bytes are stored, %v, want %d", sum, err, all)
		}
		if got, want := s.collect(), (content.Collected{Links: 1, Blobs: 1, Bytes: 7}); got != want {
			t.Errorf("collected %+v, want %+v", got, want)
		}
		s.lacks("vm", "garbage")
		s.ok(content.Complete(s, "vm", m))
		if got := s.collect(); got != (content.Collected{}) {
			t.Errorf("again: %+v", got)
		}
		s.blob("vm", "garbage") // as new
		s.has("vm", "garbage")
	},
	"content that two repositories have stays for one": func(t *testing.T, s store) {
		s.push("a", "shared", "v1")
		s.blob("b", "shared")
		if got := s.collect(); got.Links != 1 || got.Blobs != 0 {
			t.Errorf("collected %+v", got)
		}
		s.has("a", "shared")
		if s.RepositoryExists("b") {
			t.Error("a repository without content is there")
		}
	},
	"manifests without a tag go, and what they alone had": func(t *testing.T, s store) {
		tagged := s.push("vm", "tagged", "v1")
		s.put("vm", about(tagged.Digest, "of/tagged"))
		child := s.push("vm", "child")
		s.put("vm", indexOf(child), "v2")
		lost := s.push("vm", "lost")
		lostIndex := s.put("vm", indexOf(lost))
		s.put("vm", about(lostIndex.Digest, "of/lost"))
		s.collect()
		if all, err := s.Manifests("vm"); err != nil || len(all) != 7 {
			t.Fatalf("%d manifests, %v: those without a tag are kept for ever", len(all), err)
		}
		if _, err := s.Collect(t.Context(), content.CollectOptions{KeepUntagged: time.Hour}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Collect(t.Context(), content.CollectOptions{KeepUntagged: time.Nanosecond})
		if err != nil || got.Manifests != 3 {
			t.Errorf("collected %+v, %v", got, err)
		}
		for _, kept := range []content.Manifest{tagged, child} {
			m, err := s.Manifest("vm", kept.Digest)
			s.ok(err)
			s.ok(content.Complete(s, "vm", m))
		}
		if found, err := s.Referrers("vm", tagged.Digest, ""); err != nil || len(found) != 1 {
			t.Errorf("referrers of what has a tag: %v, %v", found, err)
		}
		s.collect()
		s.lacks("vm", "lost")
		s.has("vm", "child")
	},
	"an export is imported": func(t *testing.T, s store) {
		s.push("vm", "one", "v1")
		s.push("vm", "two", "v2")
		dir := t.TempDir()
		if done, err := content.Export(t.Context(), s, "vm", dir, content.LayoutOptions{}); err != nil || len(done) != 2 {
			t.Fatalf("exported %q, %v", done, err)
		}
		if done, err := content.Import(t.Context(), s, dir, "copy", content.LayoutOptions{}); err != nil || len(done) != 2 {
			t.Fatalf("imported %q, %v", done, err)
		}
		if got := s.tagged("copy"); got != "v1 v2" {
			t.Errorf("tags: %s", got)
		}
		s.has("copy", "two")
	},
}
