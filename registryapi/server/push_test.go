package server

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const vmUUID = "c12ccfa5-8757-411e-9505-128190e9854e"

func TestPushedTemplateIsListedAndPulled(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		disk := bytes.Repeat([]byte("disk"), 100_000)
		d := g.pushVM("team/vm", "os:1+brew", vmUUID, map[string][]byte{"0123456789abcdef0123456789abcdef.ank": disk, "nvram": []byte("nv")})

		all, err := g.client().Templates(t.Context())
		if err != nil || len(all) != 1 || all[0].ID != vmUUID || all[0].Name != "VM of team/vm" {
			t.Fatalf("templates: got %+v, %v", all, err)
		}
		one, err := g.client().Template(t.Context(), vmUUID)
		if err != nil || len(one.Versions) != 1 {
			t.Fatalf("template: got %+v, %v", one, err)
		}
		if v := one.Versions[0]; v.Tag != "os:1+brew" || v.Digest != d.String() || v.NVRAM != "nvram" ||
			len(v.Images) != 1 || v.Description != "tag os:1+brew" || v.ConfigFile != vmUUID+".yaml" {
			t.Errorf("version: got %+v", v)
		}
		for _, ref := range []string{"os:1+brew", "latest", d.String()} {
			a := g.want(http.StatusOK, "GET", "/v2/team/vm/manifests/"+ref, nil)
			if got := digest.FromBytes(a.body); got != d {
				t.Errorf("manifest %s: got %s, want %s", ref, got, d)
			}
		}
		a := g.want(http.StatusOK, "GET", "/v2/team/vm/blobs/"+digest.FromBytes(disk).String(), nil)
		if !bytes.Equal(a.body, disk) {
			t.Errorf("blob: got %d bytes, want %d", len(a.body), len(disk))
		}
	})
}

func TestChunkedUploadResumesAndRefusesDisorder(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		data := []byte("0123456789")
		loc := g.want(http.StatusAccepted, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
		g.want(http.StatusAccepted, "PATCH", loc, strings.NewReader("01234"), "Content-Range", "0-4")
		// Overlapping, ahead, and repeated: each names the place to go on from.
		for _, cr := range []string{"4-5", "6-7", "0-1"} {
			a := g.want(http.StatusRequestedRangeNotSatisfiable, "PATCH", loc, strings.NewReader("xx"), "Content-Range", cr)
			if got := a.header.Get("Range"); got != "0-4" {
				t.Errorf("Content-Range %s: got Range %q, want 0-4", cr, got)
			}
		}
		if a := g.want(http.StatusNoContent, "GET", loc, nil); a.header.Get("Upload-Offset") != "5" {
			t.Errorf("got offset %q, want 5", a.header.Get("Upload-Offset"))
		}
		d := digest.FromBytes(data)
		g.want(http.StatusCreated, "PUT", loc+"?digest="+d.String(), strings.NewReader("56789"), "Content-Range", "5-9")
		g.want(http.StatusOK, "GET", "/v2/vm/blobs/"+d.String(), nil)
		// The answer was lost and the client asks again.
		g.want(http.StatusCreated, "PUT", loc+"?digest="+d.String(), nil)
	})
}
