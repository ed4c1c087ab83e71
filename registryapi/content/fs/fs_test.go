package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func TestUploadMovesBetweenServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openTest(t, dir), openTest(t, dir)
	u, err := a.NewUpload("vm", "")
	if err != nil {
		t.Fatal(err)
	}
	id := u.ID()
	parts := []string{"begun at one, ", "half at the other, ", "finished at the first"}
	for i, s := range []*Store{a, b, a} {
		if i > 0 {
			if u, err = s.OpenUpload(t.Context(), "vm", id); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := u.Append(strings.NewReader(parts[i])); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := digest.FromString(strings.Join(parts, ""))
	if err := u.Commit(d); err != nil {
		t.Fatal(err)
	}
	f, size, err := b.OpenBlob("vm", d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, _ := io.ReadAll(f); int64(len(data)) != size || digest.FromBytes(data) != d {
		t.Errorf("got %q of %d bytes", data, size)
	}
	if left, err := a.Uploads(); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
}

func TestUploadIsHeldByOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openTest(t, dir), openTest(t, dir)
	u, err := a.NewUpload("vm", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.OpenUpload(ctx, "vm", u.ID()); !errors.Is(err, content.ErrUploadBusy) {
		t.Errorf("while it is held: got %v, want %v", err, content.ErrUploadBusy)
	}
	if n, err := b.PurgeUploads(time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("purge while it is held: got %d, %v", n, err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"other", "vm"} {
		v, err := b.OpenUpload(t.Context(), repo, u.ID())
		if repo == "other" {
			if !errors.Is(err, content.ErrUploadUnknown) {
				t.Errorf("from another repository: got %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Cancel(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.OpenUpload(t.Context(), "vm", u.ID()); !errors.Is(err, content.ErrUploadUnknown) {
		t.Errorf("after cancelling: got %v", err)
	}
}

// What a process wrote after its last checkpoint is taken in again under the
// same run of the system, and cut off under another.
func TestUploadAfterACrash(t *testing.T) {
	t.Parallel()
	if bootID() == "" {
		t.Skip("this system does not tell its run")
	}
	for _, sameBoot := range []bool{true, false} {
		t.Run(fmt.Sprintf("same boot %t", sameBoot), func(t *testing.T) {
			t.Parallel()
			s := openTest(t, t.TempDir())
			u, err := newUpload(s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := u.Append(strings.NewReader("safe")); err != nil {
				t.Fatal(err)
			}
			if err := u.checkpoint(); err != nil {
				t.Fatal(err)
			}
			if _, err := u.Append(strings.NewReader("+tail")); err != nil {
				t.Fatal(err)
			}
			u.release() // as the death of the process does
			if !sameBoot {
				state := filepath.Join(u.dir, "state")
				data, err := os.ReadFile(state)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(state, bytes.ReplaceAll(data, []byte(bootID()), []byte("another")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			v, err := s.OpenUpload(t.Context(), "vm", u.ID())
			if err != nil {
				t.Fatal(err)
			}
			want := "safe"
			if sameBoot {
				want = "safe+tail"
			}
			if v.Offset() != int64(len(want)) {
				t.Fatalf("got offset %d, want %d", v.Offset(), len(want))
			}
			if _, err := v.Append(strings.NewReader("!")); err != nil {
				t.Fatal(err)
			}
			if err := v.Commit(digest.FromString(want + "!")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDamagedUploadStateIsUnknown(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(dir string) error{
		"state torn": func(d string) error { return os.WriteFile(filepath.Join(d, "state"), []byte(`{"off`), 0o644) },
		"state gone": func(d string) error { return os.Remove(filepath.Join(d, "state")) },
		"data gone":  func(d string) error { return os.Remove(filepath.Join(d, "data")) },
		"lock gone": func(d string) error { // and what a crash leaves while it saves the state
			return errors.Join(os.Remove(filepath.Join(d, "lock")), os.Rename(filepath.Join(d, "state"), filepath.Join(d, "state.new")))
		},
		"data shorter": func(d string) error { return os.Truncate(filepath.Join(d, "data"), 1) },
	} {
		s := openTest(t, t.TempDir())
		u, err := newUpload(s)
		if err == nil {
			_, err = u.Append(strings.NewReader("data"))
		}
		if err == nil {
			err = u.Close()
		}
		if err == nil {
			err = damage(u.dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.OpenUpload(t.Context(), "vm", u.ID()); !errors.Is(err, content.ErrUploadUnknown) {
			t.Errorf("%s: got %v, want %v", name, err, content.ErrUploadUnknown)
		}
		if n, err := s.PurgeUploads(time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("%s: purged %d, %v", name, n, err)
		}
	}
}

// Two writers, 200 tags in one repository: all of them survive, each with an
// order of its own.
func TestTwoServersPush200Tags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stores := []*Store{openTest(t, dir), openTest(t, dir)}
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range 4 {
			wg.Go(func() {
				for n := w; n < 100; n += 4 {
					tag := fmt.Sprintf("s%d-%d", i, n)
					if _, err := pushImage(s, "vm", tag, tag); err != nil {
						t.Errorf("push %s: %v", tag, err)
					}
				}
			})
		}
	}
	wg.Wait()
	tags, err := stores[0].Tags("vm")
	if err != nil || len(tags) != 200 {
		t.Fatalf("got %d tags, %v", len(tags), err)
	}
	for i, tag := range tags {
		if i > 0 && tags[i-1].Order == tag.Order {
			t.Errorf("%s and %s have one order", tags[i-1].Name, tag.Name)
		}
		m, err := stores[1].Manifest("vm", tag.Digest)
		if err == nil {
			err = content.Complete(stores[1], "vm", m)
		}
		if err != nil {
			t.Errorf("%s: %v", tag.Name, err)
		}
	}
	v, err := stores[1].Verify(t.Context(), VerifyOptions{})
	if err != nil || len(v.Damage) != 0 || v.Tags != 200 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

func TestOrderGrowsWhenClocksDisagree(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	l, err := s.lockRepo("vm")
	if err != nil {
		t.Fatal(err)
	}
	defer l.unlock()
	now := time.Now()
	first := l.nextOrder(now)
	if second := l.nextOrder(now.Add(-time.Hour)); second <= first {
		t.Errorf("got %d after %d", second, first)
	}
}

func TestJournalTellsWhatChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openTest(t, dir), openTest(t, dir)
	_, start, reset, err := a.Changes("", 100)
	if err != nil || reset || start != "0" {
		t.Fatalf("empty store: got %v, %t, %v", start, reset, err)
	}
	mustPush(t, a, "vm", "v1", "one")
	_, cursor, reset, err := b.Changes(start, 100)
	if err != nil || !reset {
		t.Fatalf("a cursor of before the journal: got reset %t, %v", reset, err)
	}
	mustPush(t, b, "vm", "v2", "two")
	if err := a.DeleteTag("vm", "v1"); err != nil {
		t.Fatal(err)
	}
	if err := a.SetMeta("vm", content.Meta{Arch: "arm64"}); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for { // one at a time, through the cursor's text
		found, next, reset, err := b.Changes(cursor, 1)
		if err != nil || reset {
			t.Fatalf("reset %t, %v", reset, err)
		}
		if len(found) == 0 {
			break
		}
		kinds = append(kinds, found[0].Kind+" "+found[0].Tag)
		cursor = next
	}
	want := "manifest_put ,tag_put v2,tag_deleted v1,meta_put "
	if got := strings.Join(kinds, ","); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestJournalSurvivesATornLine(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	mustPush(t, s, "vm", "v1", "one")
	_, cursor, _, _ := s.Changes("", 1)
	epoch, segments, err := s.journal.segments()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.journal.path(epoch, segments[0]), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"kind":"tag_p`)
	_ = f.Close()
	if found, _, _, err := s.Changes(cursor, 10); err != nil || len(found) != 0 {
		t.Errorf("a torn line: got %+v, %v", found, err)
	}
	mustPush(t, s, "vm", "v2", "two")
	found, _, _, err := s.Changes(cursor, 10)
	if err != nil || len(found) != 2 || found[1].Tag != "v2" {
		t.Errorf("after it: got %+v, %v", found, err)
	}
}

func TestJournalCutsSegmentsAndForgetsTheOldest(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	s.journal.segment = 4 << 10
	line := bytes.Repeat([]byte(" "), 1<<10)
	copy(line, `{"kind":"tag_put"}`)
	if err := s.journal.append(line); err != nil {
		t.Fatal(err)
	}
	_, first, _, err := s.Changes("", 1)
	if err != nil {
		t.Fatal(err)
	}
	lines := (keepSegments + 1) * 4
	cursor, got := first, 0
	for range lines {
		if err := s.journal.append(line); err != nil {
			t.Fatal(err)
		}
		found, next, reset, err := s.Changes(cursor, 10)
		if err != nil || reset || len(found) != 1 {
			t.Fatalf("after %d lines: got %d, reset %t, %v", got, len(found), reset, err)
		}
		cursor, got = next, got+1
	}
	if _, _, reset, err := s.Changes(first, 10); err != nil || !reset {
		t.Errorf("a cursor of a forgotten segment: reset %t, %v", reset, err)
	}
	if _, segments, _ := s.journal.segments(); len(segments) > keepSegments {
		t.Errorf("got %d segments, want at most %d", len(segments), keepSegments)
	}
}

// A process that dies between a change and telling of it leaves an intent.
func TestChangesOfADeadProcessAreTold(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	mustPush(t, s, "vm", "v1", "one")
	_, cursor, _, _ := s.Changes("", 1)
	intent := filepath.Join(s.root, "tmp", "intent-dead")
	if err := os.WriteFile(intent, []byte(`{"kind":"tag_put","repository":"vm","tag":"v9"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(s.root, "tmp", "intent-live")
	if err := os.WriteFile(live, []byte(`{"kind":"tag_put","repository":"vm","tag":"v8"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	held, err := lockFile(live, true)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if n, err := s.Settle(); n != 1 || err != nil {
		t.Errorf("settle: got %d, %v", n, err)
	}
	found, _, _, err := s.Changes(cursor, 10)
	if err != nil || len(found) != 1 || found[0].Tag != "v9" || found[0].Kind != registryapi.TagPut {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestFloorAndQuotaRefuseBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Limits{Quota: 1000, MinFree: 500})
	if err != nil {
		t.Fatal(err)
	}
	free := uint64(10_000)
	s.disk = func(string) (uint64, uint64, error) { return free, 20_000, nil }
	if _, err := pushBlob(s, "vm", make([]byte, 600)); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSpace(401); !errors.Is(err, content.ErrNoSpace) || !strings.Contains(err.Error(), "quota") {
		t.Errorf("beyond the quota: got %v", err)
	}
	if err := s.CheckSpace(400); err != nil {
		t.Errorf("at the quota: got %v", err)
	}
	free = 800
	if err := s.CheckSpace(301); !errors.Is(err, content.ErrNoSpace) || !strings.Contains(err.Error(), "free") {
		t.Errorf("into the floor: got %v", err)
	}
	free = 499
	if _, err := newUpload(s); !errors.Is(err, content.ErrNoSpace) {
		t.Errorf("below the floor: got %v", err)
	}
}
