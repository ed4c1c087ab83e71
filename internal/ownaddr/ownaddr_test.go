package ownaddr

import "testing"

func TestReaches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url, listen string
		want        bool
	}{
		{"http://127.0.0.1:8090", "127.0.0.1:8090", true},
		{"http://localhost:8090/", "127.0.0.1:8090", true},
		{"http://127.0.0.1:8090", ":8090", true},
		{"http://127.0.0.1:8090", "0.0.0.0:8090", true},
		{"http://[::1]:8090", "[::]:8090", true},
		{"http://0.0.0.0:8090", "127.0.0.1:8090", true},
		{"http://127.0.0.1", ":80", true},
		{"https://127.0.0.1", ":443", true},
		{"http://127.0.0.1:8091", ":8090", false},
		{"http://127.0.0.2:8090", "127.0.0.1:8090", false},
		{"http://192.0.2.1:8090", ":8090", false},
		{"http://127.0.0.1:0", "127.0.0.1:0", false},
		{"::", ":8090", false},
	} {
		if got := Reaches(tt.url, tt.listen); got != tt.want {
			t.Errorf("%s at %s: got %v", tt.url, tt.listen, got)
		}
	}
}
