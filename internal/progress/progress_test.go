package progress

import (
	"strings"
	"testing"
)

func TestLineEveryTenthWhereThereIsNoTerminal(t *testing.T) {
	var out strings.Builder
	b := New(&out, "pull vm:v1", false)
	for done := int64(0); done <= 2000; done += 50 {
		b.Report(done, 2000)
	}
	b.End()
	got := out.String()
	if n := strings.Count(got, "\n"); n != 11 || !strings.HasPrefix(got, "pull vm:v1: 0% of 2.0 kB\n") || !strings.HasSuffix(got, "pull vm:v1: 100% of 2.0 kB\n") {
		t.Errorf("%d lines:\n%s", n, got)
	}
	out.Reset()
	quiet := New(&out, "x", true)
	quiet.Report(1, 1)
	quiet.End()
	if out.Len() != 0 {
		t.Errorf("a quiet one wrote %q", out.String())
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 314_572_800: "314.6 MB", 60e9: "60.0 GB", 5e15: "5000.0 TB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
