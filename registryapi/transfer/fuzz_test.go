package transfer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FuzzPulledManifest: whatever a registry answers, no file of a pull lies
// outside the directory, or where the partial files are.
func FuzzPulledManifest(f *testing.F) {
	d := digest.FromString("x").String()
	for _, title := range []string{"a.ank", "..", ".", "", "../x", "/etc/passwd", `..\\x`, ".partial", "a/b", "a\u0000", "\u202e"} {
		f.Add([]byte(`{"config":{"digest":"` + d + `","size":1},"layers":[{"digest":"` + d + `","size":1,"annotations":{"org.opencontainers.image.title":"` + title + `"}}]}`))
	}
	f.Add([]byte(`{"config":{"digest":"sha256:../../x","size":1}}`))
	f.Add([]byte(`{"config":{"digest":"` + d + `","size":-1},"layers":null}`))
	f.Add([]byte(`{"config":{"digest":"` + d + `"},"layers":[{"digest":"md5:00"},{}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		im, err := Manifest{Raw: raw}.image()
		if err != nil {
			return
		}
		plan, err := planPull(im, "/dir", nil)
		if err != nil {
			return
		}
		for _, file := range plan.files {
			if filepath.Dir(file.Path) != "/dir" || filepath.Base(file.Path) == partialDir || file.Path == "/dir" {
				t.Errorf("%s leads to %s", raw, file.Path)
			}
		}
		if plan.total() < 0 && len(plan.blobs) < 2 {
			t.Errorf("%s: %d bytes to fetch", raw, plan.total())
		}
	})
}

// FuzzPartialState damages what an earlier pull left: it is gone on with or
// begun anew, and in the end the file is right.
func FuzzPartialState(f *testing.F) {
	content := []byte("0123456789")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	name := filepath.Join(partialDir, "sha256-"+desc.Digest.Encoded())
	dir := f.TempDir()
	p, err := openPartial(dir, desc)
	if err == nil {
		_, err = p.Write(content[:4])
	}
	if err == nil {
		err = p.scatter()
	}
	if err == nil {
		err = p.writeAt(content[6:8], 6)
	}
	if err == nil {
		err = p.close()
	}
	good, rerr := os.ReadFile(filepath.Join(dir, name+".json"))
	data, derr := os.ReadFile(filepath.Join(dir, name+".data"))
	if err := errors.Join(err, rerr, derr); err != nil {
		f.Fatal(err)
	}
	f.Add(good, data)
	f.Add(good, data[:7]) // an extent beyond the end of the file
	f.Add(good, data[:2])
	f.Add(good, append(bytes.Clone(data), "more than the blob has"...))
	f.Add(bytes.Replace(good, []byte(`"offset":4`), []byte(`"offset":-4`), 1), data)
	f.Add(bytes.Replace(good, []byte(`"offset":4`), []byte(`"offset":3`), 1), data)
	f.Add(bytes.Replace(good, []byte(`"from":6`), []byte(`"from":-6`), 1), data)
	f.Add(bytes.Replace(good, []byte(`"scattered":true`), []byte(`"scattered":false`), 1), data)
	f.Add(good[:20], data)
	f.Add([]byte("null"), []byte("012345678X"))
	f.Fuzz(func(t *testing.T, state, data []byte) {
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(dir, partialDir), 0o755),
			os.WriteFile(filepath.Join(dir, name+".json"), state, 0o644), os.WriteFile(filepath.Join(dir, name+".data"), data, 0o644)); err != nil {
			t.Fatal(err)
		}
		p, err := openPartial(dir, desc)
		if err != nil {
			t.Fatalf("state %q: %v", state, err)
		}
		if p.have() > desc.Size || p.next() > desc.Size {
			t.Errorf("state %q: have %d of %d bytes", state, p.have(), desc.Size)
		}
		fetch := func() error {
			for _, gap := range p.missing() {
				if err := p.writeAt(content[gap.From:gap.To], gap.From); err != nil {
					t.Fatalf("state %q: %v", state, err)
				}
			}
			if err := p.advance(); err != nil {
				t.Fatalf("state %q: %v", state, err)
			}
			return p.verify()
		}
		kept := p.have()
		if err := fetch(); errors.Is(err, ErrDigest) { // what was left was wrong: all of it again
			if err := p.restart(); err != nil {
				t.Fatal(err)
			}
			if err = fetch(); err != nil {
				t.Fatalf("state %q, anew: %v", state, err)
			}
			kept = 0
		} else if err != nil {
			t.Fatalf("state %q: %v", state, err)
		}
		path := filepath.Join(dir, "file")
		if err := p.commit(path); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || len(got) != len(content) || kept == 0 && !bytes.Equal(got, content) {
			t.Errorf("state %q: got %q, %v", state, got, err)
		}
	})
}
