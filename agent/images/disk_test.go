package images

import (
	"slices"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// A14: least recent use, none in use, no more than needed.
func TestA14Evict(t *testing.T) {
	at := func(id string, day int, size uint64) Image {
		return Image{ID: controllerapi.TemplateID(id), Used: time.Unix(int64(day)*86400, 0), Size: size}
	}
	images := []Image{at("oldest", 1, 10), at("busy", 2, 50), at("middle", 3, 20), at("newest", 4, 40)}
	busy := func(k key) bool { return k.id == "busy" }
	for _, tt := range []struct {
		free, need, reserve uint64
		want                []controllerapi.TemplateID
	}{
		{100, 50, 50, nil}, // exactly enough
		{99, 50, 50, []controllerapi.TemplateID{"oldest"}},
		{90, 50, 50, []controllerapi.TemplateID{"oldest"}},
		{89, 50, 50, []controllerapi.TemplateID{"oldest", "middle"}},
		{0, 1000, 0, []controllerapi.TemplateID{"oldest", "middle", "newest"}},
	} {
		var got []controllerapi.TemplateID
		for _, c := range evict(images, busy, tt.free, tt.need, tt.reserve) {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("free %d, need %d, reserve %d: got %v, want %v", tt.free, tt.need, tt.reserve, got, tt.want)
		}
	}
}
