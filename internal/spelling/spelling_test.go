package spelling

import (
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"join", "disjoin", "status", "endpoints", "logs", "ANKA_ENABLE_AUTH", "ANKA_LISTEN_ADDR"}
	for written, want := range map[string]string{
		"jion": "join", "joi": "join", "stauts": "status", "statuss": "status", "endpoint": "endpoints",
		"ANKA_ENABLE_AUHT": "ANKA_ENABLE_AUTH", "ANKA_LISTEN_ADRESS": "", "vm": "", "lo": "", "": "",
	} {
		if got := Nearest(written, slices.Values(words)); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", written, got, want)
		}
	}
}
