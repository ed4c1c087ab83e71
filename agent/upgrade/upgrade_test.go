package upgrade

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"go.uber.org/goleak"

	"github.com/ankacluster/ankacluster/controllerapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is a program that prints what `ankacluster --version` would.
func program(version string) string {
	return "#!/bin/sh\necho \"ankacluster " + version + " (commit x)\"\n"
}

// key is what the programs of these tests are signed with.
var key = func() minisign.PrivateKey {
	_, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return private
}()

// trust is that of an agent of version 1.
var trust = Trust{Keys: []minisign.PublicKey{key.Public().(minisign.PublicKey)}, OS: "darwin", Arch: "arm64", Running: "1"}

// signature signs content as what a statement says.
func signature(with minisign.PrivateKey, content, statement string) string {
	r := minisign.NewReader(strings.NewReader(content))
	_, _ = io.Copy(io.Discard, r)
	return string(r.SignWithComments(with, statement, "a test's key"))
}

// stated is what is to be said of content as a version for this machine.
func stated(version, content string) string {
	return Statement{Version: version, OS: "darwin", Arch: "arm64", Size: int64(len(content))}.String()
}

func task(version, content string) controllerapi.UpgradeTask {
	sum := sha256.Sum256([]byte(content))
	return controllerapi.UpgradeTask{Version: version, Path: "/pkg/x", SHA256: hex.EncodeToString(sum[:])}
}

// serve gives a program that is signed as a version.
func serve(version, content string) Fetch {
	return serveSigned(content, signature(key, content, stated(version, content)))
}

func serveSigned(content, signature string) Fetch {
	return func(_ context.Context, path string) (io.ReadCloser, error) {
		if strings.HasSuffix(path, SignatureSuffix) {
			content := signature
			return io.NopCloser(strings.NewReader(content)), nil
		}
		return io.NopCloser(strings.NewReader(content)), nil
	}
}

// installed is an upgrade directory beside an installed program of version 1.
func installed(t *testing.T) (Dir, string) {
	t.Helper()
	dir := t.TempDir()
	exe := filepath.Join(dir, "ankacluster")
	if err := os.WriteFile(exe, []byte(program("1")), 0o755); err != nil {
		t.Fatal(err)
	}
	return Dir(filepath.Join(dir, "upgrade")), exe
}

func at(t *testing.T, exe string) string {
	t.Helper()
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(exe)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v; want 0755", info.Mode(), err)
	}
	return string(data)
}

// begin brings version 2 on trial.
func begin(t *testing.T, d Dir, exe string) controllerapi.UpgradeTask {
	t.Helper()
	two := task("2", program("2"))
	if err := d.Prepare(t.Context(), two, trust, serve("2", program("2"))); err != nil {
		t.Fatal(err)
	}
	guarded := ""
	err := d.Begin(two, "1", exe, func(previous string) error {
		guarded = at(t, previous)
		if at(t, exe) != program("1") {
			t.Error("the guard starts after the swap: a crash between them has none")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if guarded != program("1") || at(t, exe) != program("2") {
		t.Fatalf("guard runs %q, installed is %q", guarded, at(t, exe))
	}
	return two
}

func TestConfirmedUpgradeStays(t *testing.T) {
	t.Parallel()
	d, exe := installed(t)
	begin(t, d, exe)
	if err := d.Started("2"); err != nil {
		t.Fatal(err)
	}
	if err := d.Confirm("2"); err != nil {
		t.Fatal(err)
	}
	if rolledBack, err := d.Guard(t.Context(), 0); rolledBack != "" || err != nil {
		t.Errorf("Guard() after Confirm = %q, %v", rolledBack, err)
	}
	if at(t, exe) != program("2") {
		t.Error("version 2 is gone")
	}
	if left, _ := os.ReadDir(string(d)); len(left) != 1 || left[0].Name() != "confirmed" {
		t.Errorf("left behind: %v", left)
	}
}

// A3: an upgrade ends with the new version or the old one, within a deadline.
func TestA3UnconfirmedUpgradeIsRolledBackByTheGuard(t *testing.T) {
	t.Parallel()
	d, exe := installed(t)
	two := begin(t, d, exe)
	rolledBack, err := d.Guard(t.Context(), 50*time.Millisecond)
	if rolledBack != exe || err != nil || at(t, exe) != program("1") {
		t.Fatalf("Guard() = %q, %v, installed %q; want version 1 back", rolledBack, err, at(t, exe))
	}
	// The same package is not tried again, a mended one is.
	if err := d.Prepare(t.Context(), two, trust, serve("2", program("2"))); !errors.Is(err, ErrRolledBack) {
		t.Errorf("Prepare() of what failed = %v, want ErrRolledBack", err)
	}
	mended := program("2") + "# mended\n"
	if err := d.Prepare(t.Context(), task("2", mended), trust, serve("2", mended)); err != nil {
		t.Errorf("Prepare() of a mended package = %v", err)
	}
}

// The guard may die with the machine.
func TestNewVersionThatKeepsStartingRollsItselfBack(t *testing.T) {
	t.Parallel()
	d, exe := installed(t)
	begin(t, d, exe)
	for range MaxStarts {
		if err := d.Started("2"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Started("2"); !errors.Is(err, ErrRolledBack) || at(t, exe) != program("1") {
		t.Errorf("Started() = %v, installed %q; want version 1 back", err, at(t, exe))
	}
	if err := d.Started("1"); err != nil {
		t.Errorf("Started() of the old version = %v", err)
	}
}

// A3: a package that failed to download is not installed.
func TestA3BadPackageChangesNothing(t *testing.T) {
	t.Parallel()
	good := program("2")
	broken := errors.New("connection reset")
	for name, tc := range map[string]struct {
		task  controllerapi.UpgradeTask
		fetch Fetch
		want  error
	}{
		"cut short":        {task("2", good), serveSigned(good[:20], signature(key, good, stated("2", good))), ErrPackage},
		"longer":           {task("2", good), serveSigned(good+"#", signature(key, good, stated("2", good))), ErrPackage},
		"another content":  {task("2", good), serve("2", program("3")), ErrPackage},
		"another version":  {task("3", good), serve("3", good), ErrPackage},
		"not a program":    {task("2", "\x00\x01"), serve("2", "\x00\x01"), ErrPackage},
		"an installer":     {task("2", "xar!\x00\x1c"), serve("2", "xar!\x00\x1c"), ErrPackage},
		"that fails":       {task("2", "#!/bin/sh\nexit 3\n"), serve("2", "#!/bin/sh\nexit 3\n"), ErrPackage},
		"that cannot come": {task("2", good), func(context.Context, string) (io.ReadCloser, error) { return nil, broken }, broken},
		"that breaks off": {task("2", good), func(ctx context.Context, path string) (io.ReadCloser, error) {
			if strings.HasSuffix(path, SignatureSuffix) {
				return serve("2", good)(ctx, path)
			}
			return io.NopCloser(io.MultiReader(strings.NewReader(good[:9]), failing{broken})), nil
		}, broken},
	} {
		d, exe := installed(t)
		if err := d.Prepare(t.Context(), tc.task, trust, tc.fetch); !errors.Is(err, tc.want) {
			t.Errorf("%s: Prepare() = %v, want %v", name, err, tc.want)
		}
		if at(t, exe) != program("1") {
			t.Errorf("%s: the installed program has changed", name)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestNoSwapWithoutAGuard(t *testing.T) {
	t.Parallel()
	d, exe := installed(t)
	two := task("2", program("2"))
	if err := d.Prepare(t.Context(), two, trust, serve("2", program("2"))); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no more processes")
	if err := d.Begin(two, "1", exe, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Begin() = %v, want the guard's error", err)
	}
	if at(t, exe) != program("1") {
		t.Error("swapped although nobody guards")
	}
	if rolledBack, err := d.Guard(t.Context(), 0); rolledBack != "" || err != nil {
		t.Errorf("a trial is pending after all: %q, %v", rolledBack, err)
	}
}

// A program that is reached by a link is replaced where the link leads; a rollback
// leaves alone what a package manager has put there since.
func TestUpgradeKeepsTheLinkToTheProgram(t *testing.T) {
	t.Parallel()
	for _, moved := range []bool{false, true} {
		d, file := installed(t)
		link := filepath.Join(t.TempDir(), "ankacluster")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		next := program("2")
		if err := d.Prepare(t.Context(), task("2", next), trust, serve("2", next)); err != nil {
			t.Fatal(err)
		}
		if err := d.Begin(task("2", next), "1", link, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if to, err := os.Readlink(link); err != nil || to != file || at(t, file) != next {
			t.Errorf("after the upgrade the link leads to %q (%v), whose program is %q", to, err, at(t, file))
		}
		want := program("1")
		if moved {
			other := filepath.Join(t.TempDir(), "ankacluster")
			want = program("3")
			if err := errors.Join(os.WriteFile(other, []byte(want), 0o755), os.Remove(link), os.Symlink(other, link), os.Remove(file)); err != nil {
				t.Fatal(err)
			}
		}
		if back, err := d.Guard(t.Context(), 0); err != nil || back != link {
			t.Errorf("rollback: got %q, %v", back, err)
		}
		if got := at(t, link); got != want {
			t.Errorf("moved %v: after the rollback the link leads to %q, want %q", moved, got, want)
		}
	}
}
