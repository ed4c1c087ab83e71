package memory

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// PutTag implements content.Tags.
func (s *Store) PutTag(repo string, t content.Tag) error {
	if err := oci.CheckTag(t.Name); err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	m, err := s.Manifest(repo, t.Digest)
	if err != nil {
		return err
	}
	now := time.Now()
	meta := content.NewMeta(s, repo, m, now)
	s.alter(repo, func(r *repository) {
		if old, ok := r.tags[t.Name]; ok && old.Digest == t.Digest && (t.Order == 0 || t.Order == old.Order) {
			return
		}
		if t.Pushed.IsZero() {
			t.Pushed = now
		}
		if t.Order == 0 {
			s.order = max(now.UnixNano(), s.order+1)
			t.Order = s.order
		}
		if r.meta == nil {
			r.meta = &meta
		}
		t.MediaType, t.Size = m.MediaType, int64(len(m.Raw))
		r.tags[t.Name], r.tagged = t, now
		s.tell(content.Change{Kind: registryapi.TagPut, Repository: repo, Tag: t.Name, Digest: t.Digest.String(), Order: t.Order})
	})
	return nil
}

// Tag implements content.Tags.
func (s *Store) Tag(repo, name string) (t content.Tag, err error) {
	if err := oci.CheckRepository(repo); err != nil {
		return t, err
	}
	if err := oci.CheckTag(name); err != nil {
		return t, err
	}
	s.peek(repo, func(r *repository) {
		var ok bool
		if t, ok = r.tags[name]; !ok {
			err = fmt.Errorf("%w: %s", content.ErrTagUnknown, name)
		}
	})
	return t, err
}

// Tags implements content.Tags.
func (s *Store) Tags(repo string) (all []content.Tag, err error) {
	err = oci.CheckRepository(repo)
	s.peek(repo, func(r *repository) { all = slices.SortedFunc(maps.Values(r.tags), content.Tag.Compare) })
	return all, err
}

// ReadTags implements content.Tags.
func (s *Store) ReadTags(repo string) (tags []content.Tag, damaged []string, err error) {
	tags, err = s.Tags(repo)
	return tags, nil, err
}

// DeleteTag implements content.Tags.
func (s *Store) DeleteTag(repo, name string) error {
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.Tag(repo, name); err != nil {
		return err
	}
	s.alter(repo, func(r *repository) { s.dropTag(repo, r, name) })
	return nil
}

// dropTag removes a tag. The caller holds mu.
func (s *Store) dropTag(repo string, r *repository, name string) {
	was := r.tags[name]
	delete(r.tags, name)
	delete(r.pulls, name)
	r.tagged = time.Now()
	s.tell(content.Change{Kind: registryapi.TagDeleted, Repository: repo, Tag: name, Digest: was.Digest.String()})
}

// TagsChanged implements content.Tags.
func (s *Store) TagsChanged(repo string) (at time.Time) {
	s.peek(repo, func(r *repository) { at = r.tagged })
	return at
}

// RecordPull implements content.Tags.
func (s *Store) RecordPull(repo, tag string, now time.Time) {
	s.peek(repo, func(r *repository) {
		if r.pulls != nil {
			r.pulls[tag] = now
		}
	})
}

// LastPull implements content.Tags.
func (s *Store) LastPull(repo, tag string) (at time.Time) {
	s.peek(repo, func(r *repository) { at = r.pulls[tag] })
	return at
}

// Changes implements content.Journal. A cursor is the store's id and the number of
// changes before it.
func (s *Store) Changes(after content.Cursor, limit int) (changes []content.Change, next content.Cursor, reset bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := len(s.journal)
	if end == 0 {
		return nil, "0", false, nil
	}
	text, known := strings.CutPrefix(string(after), s.id+"@")
	from, err := strconv.Atoi(text)
	if !known || err != nil || from < 0 || from > end {
		return nil, s.cursor(end), true, nil
	}
	to := min(end, from+max(limit, 0))
	return slices.Clone(s.journal[from:to]), s.cursor(to), false, nil
}

func (s *Store) cursor(n int) content.Cursor {
	return content.Cursor(s.id + "@" + strconv.Itoa(n))
}

// Changed implements content.Journal.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Settle implements content.Journal: there is no process but this one.
func (s *Store) Settle() (int, error) { return 0, nil }

// NoteDone implements content.Notes.
func (s *Store) NoteDone(n content.Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes[n.Name()] = n.What
}

// Done implements content.Notes.
func (s *Store) Done(n content.Note) (what string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what, ok = s.notes[n.Name()]
	return what, ok
}

// ForgetDone implements content.Notes.
func (s *Store) ForgetDone(n content.Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.notes, n.Name())
}
