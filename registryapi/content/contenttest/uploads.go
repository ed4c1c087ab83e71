package contenttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

var uploads = map[string]func(*testing.T, store){
	"an upload goes on where it was": func(t *testing.T, s store) {
		u := s.begin("begun, ")
		s.ok(u.Close())
		s.lacks("vm", "begun, ")
		v := s.reopen(u.ID())
		if v.ID() != u.ID() || v.Offset() != 7 || v.Overtook() {
			t.Errorf("got %s at %d, overtook %t", v.ID(), v.Offset(), v.Overtook())
		}
		s.append(v, "and ")
		s.append(v, "ended")
		s.ok(v.Commit(digest.FromString("begun, and ended")))
		s.ok(v.Close())
		s.has("vm", "begun, and ended")
		_, err := s.OpenUpload(t.Context(), "vm", u.ID())
		s.refused("open after the commit", err, content.ErrUploadUnknown)
	},
	"what arrived before an error is kept": func(t *testing.T, s store) {
		u := s.begin("")
		cut := errors.New("connection cut")
		n, err := u.Append(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cut)))
		if n != 4 || !errors.Is(err, cut) {
			t.Errorf("append: %d, %v", n, err)
		}
		s.ok(u.Close())
		u = s.reopen(u.ID())
		if u.Offset() != 4 {
			t.Fatalf("goes on at %d", u.Offset())
		}
		s.append(u, " and half")
		s.ok(u.Commit(digest.FromString("half and half")))
		s.has("vm", "half and half")
	},
	"content of another digest is refused": func(t *testing.T, s store) {
		u := s.begin("one")
		s.refused("commit", u.Commit(digest.FromString("other")), content.ErrDigestMismatch)
		s.lacks("vm", "one")
		s.lacks("vm", "other")
		s.append(u, " more") // it is as it was
		s.ok(u.Commit(digest.FromString("one more")))
		s.has("vm", "one more")
	},
	"a digest may be of either algorithm": func(t *testing.T, s store) {
		for _, begun := range []digest.Algorithm{"", digest.SHA256, digest.SHA512} {
			for _, ended := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
				data := fmt.Sprint(begun, ended)
				u, err := s.NewUpload("vm", begun)
				s.ok(err)
				s.append(u, data)
				s.ok(u.Commit(ended.FromString(data)))
				if got, err := content.ReadBlob(s, "vm", ended.FromString(data)); err != nil || string(got) != data {
					t.Errorf("%s: got %q, %v", data, got, err)
				}
			}
		}
		_, err := s.NewUpload("vm", "md5")
		s.refused("another algorithm", err, content.ErrDigestInvalid)
	},
	"an upload is cancelled": func(t *testing.T, s store) {
		u := s.begin("unwanted")
		s.ok(u.Cancel())
		s.ok(u.Close())
		_, err := s.OpenUpload(t.Context(), "vm", u.ID())
		s.refused("open", err, content.ErrUploadUnknown)
		if left, err := s.Uploads(); err != nil || len(left) > 0 {
			t.Errorf("left: %+v, %v", left, err)
		}
	},
	"an upload is of its repository": func(t *testing.T, s store) {
		u := s.begin("x")
		s.ok(u.Close())
		for repo, id := range map[string]string{"other": u.ID(), "vm": "8c1f3f0e-1111-4222-8333-944444444444", "a": "../" + u.ID(), "b": ""} {
			_, err := s.OpenUpload(t.Context(), repo, id)
			s.refused(repo+" "+id, err, content.ErrUploadUnknown)
		}
		s.ok(s.reopen(u.ID()).Cancel())
	},
	"an upload is held by one": func(t *testing.T, s store) {
		u := s.begin("x")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.OpenUpload(ctx, "vm", u.ID())
		s.refused("open while it is held", err, content.ErrUploadBusy)
		s.append(u, "y")
		s.ok(u.Close())
		s.ok(s.reopen(u.ID()).Commit(digest.FromString("xy")))
	},
	"a writer gives way to the next": func(t *testing.T, s store) {
		u := s.begin("first")
		pr, pw := io.Pipe()
		stop := errors.New("interrupted")
		u.OnInterrupt(func() { _ = pw.CloseWithError(stop) })
		var first sync.WaitGroup
		first.Go(func() {
			if _, err := u.Append(pr); !errors.Is(err, stop) {
				t.Errorf("append: %v", err)
			}
			if err := u.Close(); err != nil {
				t.Error(err)
			}
		})
		_, err := pw.Write([]byte(" part"))
		s.ok(err)
		v := s.reopen(u.ID())
		first.Wait()
		if !v.Overtook() || v.Offset() != 10 {
			t.Errorf("overtook %t, at %d", v.Overtook(), v.Offset())
		}
		s.ok(v.Commit(digest.FromString("first part")))
	},
	"unfinished uploads are listed and purged": func(t *testing.T, s store) {
		resting, held := s.begin("resting"), s.begin("held")
		s.ok(resting.Close())
		found := make(map[string]content.UploadInfo)
		all, err := s.Uploads()
		s.ok(err)
		for _, u := range all {
			found[u.ID] = u
		}
		if u := found[resting.ID()]; len(all) != 2 || u.Repository != "vm" || u.Offset != 7 || u.Started.IsZero() || u.Updated.IsZero() {
			t.Errorf("listed %+v", all)
		}
		if n, err := s.PurgeUploads(time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Errorf("purged %d, %v, and all are new", n, err)
		}
		if n, err := s.PurgeUploads(time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("purged %d, %v, want the one that nobody holds", n, err)
		}
		_, err = s.OpenUpload(t.Context(), "vm", resting.ID())
		s.refused("open of what was purged", err, content.ErrUploadUnknown)
		s.ok(held.Commit(digest.FromString("held")))
	},
	"an upload is read while it grows": func(t *testing.T, s store) {
		for name, end := range map[string]func(u content.Upload) error{
			"committed": func(u content.Upload) error { return u.Commit(digest.FromString("0123456789")) },
			"cancelled": content.Upload.Cancel,
		} {
			u := s.begin("01234")
			g, err := s.Growing(u.ID())
			s.ok(err)
			got := make([]byte, 3)
			if _, err := g.ReadAt(got, 2); err != nil || string(got) != "234" || g.Size() != 5 || g.Ended() {
				t.Errorf("%s: got %q of %d, %v, ended %t", name, got, g.Size(), err, g.Ended())
			}
			if n, err := g.ReadAt(got, 4); n != 1 || !errors.Is(err, io.EOF) {
				t.Errorf("%s: beyond the end: %d, %v", name, n, err)
			}
			s.append(u, "56789")
			s.ok(end(u))
			if _, err := g.ReadAt(got, 7); err != nil || string(got) != "789" || !g.Ended() {
				t.Errorf("%s: afterwards got %q, %v, ended %t", name, got, err, g.Ended())
			}
			s.ok(g.Close())
			_, err = s.Growing(u.ID())
			s.refused(name, err, fs.ErrNotExist)
		}
	},
	"one blob is committed by many": func(t *testing.T, s store) {
		data := strings.Repeat("shared", 10000)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				if err := pushBlob(s, fmt.Sprint("vm", i%2), data); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s.has("vm0", data)
		s.has("vm1", data)
		if sum, err := s.CountUsage(); err != nil || sum != int64(len(data)) {
			t.Errorf("%d bytes are stored, %v, want %d", sum, err, len(data))
		}
	},
	"a store without limits has space": func(t *testing.T, s store) {
		for _, n := range []int64{-1, 0, 1 << 20} {
			s.ok(s.CheckSpace(n))
		}
		if free, total, err := s.Disk(); err != nil || total == 0 || free > total {
			t.Errorf("%d of %d bytes are free, %v", free, total, err)
		}
	},
}
