package upgrade

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// Nothing runs that no trusted key signed for this product, version, system,
// processor and size, and nothing lower than what runs or ran here.
func TestOnlySignedProgramsRun(t *testing.T) {
	t.Parallel()
	_, other, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	// What this agent must not run tells of it.
	program := func(version string) string {
		return fmt.Sprintf("#!/bin/sh\ntouch %s\necho \"ankacluster %s (commit x)\"\n", ran, version)
	}
	two := program("2")
	size := len(two)
	for _, tc := range []struct{ name, version, content, signature, want string }{
		{"no signature", "2", two, "", "no minisign signature"},
		{"a signature of megabytes", "2", two, strings.Repeat("x", 1<<20), "more than 4096 bytes"},
		{"another's key", "2", two, signature(other, two, stated("2", two)), "does not trust"},
		{"a changed program", "2", two, signature(key, strings.Replace(two, "touch", "tuoch", 1), stated("2", two)), "signature is wrong"},
		{"a changed statement", "3", two, strings.Replace(signature(key, two, stated("2", two)), " 2 ", " 3 ", 1), "signature is wrong"},
		{"minisign's own words", "2", two, signature(key, two, "timestamp:1700000000 file:AnkaAgentArm.pkg hashed"), "trusted comment is not"},
		{"another product", "2", two, signature(key, two, fmt.Sprintf("anka-controller 2 darwin/arm64 %d", size)), "is about"},
		{"another version", "2", two, signature(key, two, stated("3", two)), "signed as version 3"},
		{"another system", "2", two, signature(key, two, fmt.Sprintf("ankacluster 2 linux/arm64 %d", size)), "signed for linux/arm64"},
		{"another processor", "2", two, signature(key, two, fmt.Sprintf("ankacluster 2 darwin/amd64 %d", size)), "signed for darwin/amd64"},
		{"another size", "2", two, signature(key, two, fmt.Sprintf("ankacluster 2 darwin/arm64 %d", size-1)), "bytes that are signed"},
		{"an older version", "0.9", program("0.9"), signature(key, program("0.9"), stated("0.9", program("0.9"))), "older than 1"},
		{"an earlier build of this one", "1-rc.1", program("1-rc.1"), signature(key, program("1-rc.1"), stated("1-rc.1", program("1-rc.1"))), "older than 1"},
	} {
		d, exe := installed(t)
		err := d.Prepare(t.Context(), task(tc.version, tc.content), trust, serveSigned(tc.content, tc.signature))
		if !errors.Is(err, ErrPackage) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Fatalf("%s: it has run", tc.name)
		}
		if _, err := os.Stat(d.path("new")); err == nil {
			t.Errorf("%s: it is still there", tc.name)
		}
		if at(t, exe) != "#!/bin/sh\necho \"ankacluster 1 (commit x)\"\n" {
			t.Errorf("%s: the installed program has changed", tc.name)
		}
	}
	d, _ := installed(t)
	if err := d.Prepare(t.Context(), task("2", two), Trust{OS: "darwin", Arch: "arm64", Running: "1"}, serve("2", two)); err == nil || !strings.Contains(err.Error(), "knows no key") {
		t.Errorf("without keys: got %v", err)
	}
	if err := d.Prepare(t.Context(), task("2", two), trust, serve("2", two)); err != nil {
		t.Errorf("signed as it is to be: %v", err)
	}
	if _, err := os.Stat(ran); err != nil {
		t.Error("what is signed was not asked for its version")
	}
}

// What was confirmed is the least from then on; a downgrade has to be signed as one,
// and is the least after it.
func TestDowngradeIsSignedAsOne(t *testing.T) {
	t.Parallel()
	d, exe := installed(t)
	begin(t, d, exe) // version 2
	if err := d.Confirm("2"); err != nil {
		t.Fatal(err)
	}
	between := program("1.5")
	byHand := trust // somebody has put version 1 back by hand
	if err := d.Prepare(t.Context(), task("1.5", between), byHand, serve("1.5", between)); err == nil || !strings.Contains(err.Error(), "older than 2") {
		t.Errorf("version 1.5 after version 2 worked: got %v", err)
	}
	running := trust
	running.Running = "2"
	lower := program("1.5")
	signed := serveSigned(lower, signature(key, lower, stated("1.5", lower)+" downgrade"))
	if err := d.Prepare(t.Context(), task("1.5", lower), running, signed); err != nil {
		t.Fatalf("signed as a downgrade: %v", err)
	}
	if err := d.Begin(task("1.5", lower), "2", exe, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := d.Confirm("1.5"); err != nil {
		t.Fatal(err)
	}
	next := program("1.6")
	running.Running = "1.5"
	if err := d.Prepare(t.Context(), task("1.6", next), running, serve("1.6", next)); err != nil {
		t.Errorf("version 1.6 after a downgrade to 1.5: %v", err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	public := key.Public().(minisign.PublicKey)
	file, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{public.String(), string(file), string(file) + "\n"} {
		if got, err := ParseKey(text); err != nil || !got.Equal(public) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "x", public.String()[1:], strings.Repeat("A", 4000)} {
		if _, err := Keys([]string{text}); err == nil {
			t.Errorf("%.20q is taken for a key", text)
		}
	}
}

// Statements are read as they are written, and nothing else is.
func FuzzStatement(f *testing.F) {
	for _, s := range []string{"ankacluster 0.2.0 darwin/arm64 20123456", "ankacluster 0.2.0-rc.1+5 darwin/amd64 1 downgrade", "ankacluster  1 a/b 01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseStatement(text); err == nil && s.String() != text {
			t.Errorf("%q is read as %q", text, s)
		}
	})
}
