package upgrade

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

var (
	// ErrPackage means that what was downloaded is not what was announced.
	ErrPackage = errors.New("the agent package cannot be used")
	// ErrRolledBack means that the upgrade was tried, and the new program did
	// not prove itself.
	ErrRolledBack = errors.New("the new version did not work and was rolled back")
)

const (
	// ProveWithin is how long the new program has until the cloud has heard from
	// it: a registration and a heartbeat, on a slow network.
	ProveWithin = 2 * time.Minute
	// MaxStarts is how often the new program may begin without proving itself.
	MaxStarts = 3
	// maxPackage bounds a download; the agent has some 20 MB.
	maxPackage = 512 << 20
	// versionTimeout bounds the new program's first run.
	versionTimeout = 20 * time.Second
)

// Dir is where an upgrade keeps its files:
//
//	new        the downloaded program
//	previous   the old program, which the guard runs
//	pending    what is being tried
//	failed     what was tried and rolled back
//	confirmed  the highest version that worked
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// attempt is the record of an upgrade under way.
type attempt struct {
	Version    string    `json:"version"`
	From       string    `json:"from"`
	SHA256     string    `json:"sha256"`
	Executable string    `json:"executable"` // what is started; may be a link
	File       string    `json:"file"`       // what it led to when the upgrade began
	Began      time.Time `json:"began"`
	Starts     int       `json:"starts"`
}

// confirmed is the highest version that worked here. A signed downgrade lowers it.
type confirmed struct {
	Version string `json:"version"`
}

// Fetch opens a path below a controller's URL.
type Fetch func(ctx context.Context, path string) (io.ReadCloser, error)

// SignatureSuffix is what the path of a package's signature ends in.
const SignatureSuffix = ".minisig"

// Prepare downloads the package of t with its signature and makes sure of it. Nothing
// is made executable, and nothing runs, before the signature is verified. It returns
// ErrRolledBack when this very package was tried before, ErrPackage when it is not
// what t says or no trusted key signed it, or an error of fetch.
func (d Dir) Prepare(ctx context.Context, t controllerapi.UpgradeTask, trust Trust, fetch Fetch) error {
	var before attempt
	if d.read("failed", &before) == nil && before.SHA256 == t.SHA256 {
		return fmt.Errorf("%w: version %s", ErrRolledBack, t.Version)
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	if err := d.download(ctx, t, trust, fetch); err != nil {
		return err
	}
	if d.isInstaller() {
		return fmt.Errorf("%w: it is a macOS installer package (.pkg): put the ankacluster program itself there, under the same name", ErrPackage)
	}
	out, err := d.askVersion(ctx)
	if err != nil {
		return fmt.Errorf("%w: it does not run on this machine: %w", ErrPackage, err)
	}
	if words := strings.Fields(string(out)); len(words) < 2 || words[1] != t.Version {
		return fmt.Errorf("%w: it calls itself %q, version %s was announced", ErrPackage, strings.TrimSpace(string(out)), t.Version)
	}
	return nil
}

// isInstaller reports whether a .pkg was downloaded: a xar archive. The agent
// installs one program and runs no installer's scripts.
func (d Dir) isInstaller() bool {
	f, err := os.Open(d.path("new"))
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "xar!"
}

// askVersion runs the downloaded program. While another goroutine is between its
// fork and exec, the child still has our file open for writing, and the system
// refuses to run it for that moment.
func (d Dir) askVersion(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, d.path("new"), "--version")
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		if !errors.Is(err, syscall.ETXTBSY) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// signature downloads the signature of t's package.
func (d Dir) signature(ctx context.Context, t controllerapi.UpgradeTask, fetch Fetch) ([]byte, error) {
	path := t.Path + SignatureSuffix
	body, err := fetch(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w (agents run signed programs only)", path, err)
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxSignature+1))
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", path, err)
	}
	if len(data) > maxSignature {
		return nil, fmt.Errorf("%w: its signature has more than %d bytes", ErrPackage, maxSignature)
	}
	return data, nil
}

// download fetches the package of t to new, and removes it unless it is what a
// trusted key signed. Only then it becomes executable.
func (d Dir) download(ctx context.Context, t controllerapi.UpgradeTask, trust Trust, fetch Fetch) (err error) {
	signature, err := d.signature(ctx, t, fetch)
	if err != nil {
		return err
	}
	var best confirmed
	_ = d.read("confirmed", &best) // none yet
	said, key, err := trust.check(signature, t.Version, best.Version)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPackage, err)
	}
	body, err := fetch(ctx, t.Path)
	if err != nil {
		return fmt.Errorf("download %s: %w", t.Path, err)
	}
	defer body.Close()
	if err := d.remove("new"); err != nil { // what an earlier try left has its x bit
		return err
	}
	f, err := os.OpenFile(d.path("new"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.remove("new")
		}
	}()
	sum, signed := sha256.New(), minisign.NewReader(io.LimitReader(body, said.Size+1))
	n, err := io.Copy(io.MultiWriter(f, sum), signed)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("download %s: %w", t.Path, err), f.Close())
	}
	switch got := hex.EncodeToString(sum.Sum(nil)); {
	case n != said.Size:
		err = fmt.Errorf("%w: it does not have the %d bytes that are signed", ErrPackage, said.Size)
	case !strings.EqualFold(got, t.SHA256):
		err = fmt.Errorf("%w: its checksum is %s, %s was announced", ErrPackage, got, t.SHA256)
	case !signed.Verify(key, signature):
		err = fmt.Errorf("%w: its signature is wrong: it was changed, or signed by somebody else", ErrPackage)
	default:
		err = f.Chmod(0o700)
	}
	return errors.Join(err, f.Close())
}

// Begin puts the prepared program at executable and keeps the old one. After it
// the process has to be restarted. guard starts the process that calls Guard,
// from the program at the path it is given; it runs before the swap, so that
// there is no moment without it.
func (d Dir) Begin(t controllerapi.UpgradeTask, from, executable string, guard func(previous string) error) error {
	// A link is not replaced by a file: a package manager would miss it.
	file, err := filepath.EvalSymlinks(executable)
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	if err := copyFile(file, d.path("previous")); err != nil {
		return fmt.Errorf("keep the old program: %w", err)
	}
	a := attempt{Version: t.Version, From: from, SHA256: t.SHA256, Executable: executable, File: file, Began: time.Now().UTC()}
	if err := d.write("pending", a); err != nil {
		return err
	}
	if err := guard(d.path("previous")); err != nil {
		return errors.Join(fmt.Errorf("start the guard: %w", err), d.remove("pending"))
	}
	if err := copyFile(d.path("new"), file); err != nil {
		return errors.Join(fmt.Errorf("put the new program in place: %w", err), d.remove("pending"))
	}
	return d.remove("new")
}

// Started is to be called when an agent begins. It counts the starts of a
// version on trial, and returns ErrRolledBack when it has put the old program
// back: the process has to be restarted then.
func (d Dir) Started(version string) error {
	var a attempt
	if err := d.read("pending", &a); err != nil || a.Version != version {
		return nil // nothing is on trial, or the old version runs and its guard watches
	}
	a.Starts++
	if a.Starts > MaxStarts || time.Since(a.Began) > ProveWithin*2 {
		return errors.Join(ErrRolledBack, d.rollBack(a))
	}
	return d.write("pending", a)
}

// Confirm ends the trial of version: the cloud has heard from it. No lower one is
// taken from now on unless it is signed as a downgrade.
func (d Dir) Confirm(version string) error {
	var a attempt
	if err := d.read("pending", &a); err != nil || a.Version != version {
		return nil
	}
	var best confirmed
	_ = d.read("confirmed", &best) // none yet
	later := func(than string) bool { return semver.Compare("v"+version, "v"+than) >= 0 }
	if best.Version == "" || later(best.Version) || !later(a.From) { // the last is a downgrade
		if err := d.write("confirmed", confirmed{version}); err != nil {
			return err
		}
	}
	return errors.Join(d.remove("pending"), d.remove("failed"), d.remove("previous"))
}

// Guard watches a trial until it is confirmed, and rolls back when that takes
// longer than within. After a rollback it returns the program's path, whose agent has
// to be restarted; "" otherwise.
func (d Dir) Guard(ctx context.Context, within time.Duration) (rolledBack string, err error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var a attempt
		err := d.read("pending", &a)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case err == nil && time.Since(a.Began) > within:
			return a.Executable, d.rollBack(a)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
		}
	}
}

// rollBack puts the old program back. Doing it twice does no harm.
func (d Dir) rollBack(a attempt) error {
	file := cmp.Or(a.File, a.Executable)
	// A link that leads elsewhere by now is another upgrade, which is not ours to
	// undo.
	if now, err := filepath.EvalSymlinks(a.Executable); err != nil || now == file || a.File == "" {
		if err := copyFile(d.path("previous"), file); err != nil {
			return fmt.Errorf("put the old program back: %w", err)
		}
	}
	// Failed first: what was tried in vain must never be tried again at once.
	return errors.Join(d.write("failed", a), d.remove("pending"))
}

// copyFile puts a copy of a program at to in one step.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := atomicfile.Options{Temp: ".upgrade-*"}.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	if err := dst.Chmod(0o755); err != nil {
		return err
	}
	return dst.Commit()
}

func (d Dir) read(name string, v any) error {
	data, err := os.ReadFile(d.path(name))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func (d Dir) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Options{Temp: "." + name}.Write(d.path(name), data)
}

func (d Dir) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
