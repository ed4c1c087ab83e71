package registryapi

import "testing"

// What a start request, a revert and a pull by the REST API may call a version.
func TestFindVersion(t *testing.T) {
	t.Parallel()
	one, nine := 1, 9
	tmpl := Template{Versions: []Version{{Tag: "v1", Number: 0}, {Tag: "a+b", Number: 1}, {Tag: "v3", Number: 2}}}
	for _, tt := range []struct {
		tag    string
		number *int
		want   string
	}{
		{"", nil, "v3"}, {"v1", nil, "v1"}, {"a+b", nil, "a+b"}, {"a b", nil, "a+b"}, {"latest", nil, "v3"},
		{"v1", &one, "v1"}, {"", &one, "a+b"}, {"", &nine, ""}, {"v9", nil, ""},
	} {
		got := ""
		if v := tmpl.Find(tt.tag, tt.number); v != nil {
			got = v.Tag
		}
		if got != tt.want {
			t.Errorf("%q %v: got %q, want %q", tt.tag, tt.number, got, tt.want)
		}
	}
	pushed := Template{Versions: []Version{{Tag: "latest", Number: 0}, {Tag: "v2", Number: 1}}}
	if v := pushed.Find("latest", nil); v == nil || v.Tag != "latest" {
		t.Errorf("a pushed latest: got %+v", v)
	}
	if v := new(Template).Find("", nil); v != nil {
		t.Errorf("no version: got %+v", v)
	}
}
