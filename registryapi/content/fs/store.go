package fs

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Store is a directory of content. See the package comment.
type Store struct {
	root    string
	id      string // see ID
	journal *journal

	limits   Limits
	usage    usage
	disk     func(dir string) (free, total uint64, err error)
	sync     func(*os.File) error // of uploads; tests make it fail
	activeMu sync.Mutex
	active   map[string]*upload // uploads this process writes to, by id; guarded by activeMu
}

var _ content.Store = (*Store)(nil)

// Limits refuse a push before it fills the disk. Zero means no limit.
type Limits struct {
	// Quota is the largest sum of all blobs in bytes.
	Quota int64
	// MinFree is the space in bytes that a push must leave on the file system.
	MinFree int64
}

// DefaultLimits leave room for the journal, tags and logs, and for a person to act.
func DefaultLimits() Limits { return Limits{MinFree: 1 << 30} }

// folders are the store's own, below its root; nothing else may keep files there.
var folders = []string{"blobs", "repos", "uploads", "journal", "locks", "tmp", "quarantine"}

// Exists reports whether a directory holds a store.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "repos"))
	return err == nil
}

// Reserved reports whether a path below a store's directory is in one of its own folders.
func Reserved(dir string) bool {
	first, _, _ := strings.Cut(path.Clean("/" + filepath.ToSlash(dir))[1:], "/")
	return slices.Contains(folders, first)
}

// Open opens the store below root and makes its directories. A directory that
// cannot be written is opened for reading: everything that writes then returns
// ErrReadOnly.
func Open(root string, limits Limits) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	s := &Store{root: root, limits: limits, active: make(map[string]*upload), disk: diskSpace, sync: (*os.File).Sync}
	for _, d := range folders {
		err := atomicfile.MakeDir(filepath.Join(root, d))
		if err != nil && !errors.Is(ioError(err), content.ErrReadOnly) {
			return nil, fmt.Errorf("open store %s: %w", root, err)
		}
	}
	if _, err := os.ReadDir(filepath.Join(root, "repos")); err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	if s.id, err = s.identify(); err != nil && !errors.Is(err, content.ErrReadOnly) {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	s.journal = newJournal(s)
	return s, nil
}

// ID implements content.Store.
func (s *Store) ID() string { return s.id }

// identify reads the store's id, and gives it one first if it has none. Of several
// servers that begin at once on one directory the first gives it.
func (s *Store) identify() (string, error) {
	path := filepath.Join(s.root, "id")
	id, err := readFile(path)
	if !notExist(err) {
		return string(id), ioError(err)
	}
	lock, err := lockFile(filepath.Join(s.root, "locks", "id"), true)
	if err != nil {
		return "", ioError(err)
	}
	defer lock.Close()
	if id, err = readFile(path); notExist(err) {
		id = []byte(uuid.NewString())
		err = s.writeFile(path, id)
	}
	return string(id), ioError(err)
}

// Place returns the store's directory.
func (s *Store) Place() string { return s.root }

// Disk implements content.Uploads.
func (s *Store) Disk() (free, total uint64, err error) { return s.disk(s.root) }

// Repositories implements content.Repositories. It fails without the directory that
// holds them: the file system is not mounted any more.
func (s *Store) Repositories() ([]string, error) {
	dirs, err := names(filepath.Join(s.root, "repos"))
	if err == nil && dirs == nil {
		err = s.present()
	}
	if err != nil {
		return nil, ioError(err)
	}
	repos := make([]string, 0, len(dirs))
	for _, d := range dirs {
		if name, ok := decodeRepository(d); ok {
			repos = append(repos, name)
		}
	}
	sort.Strings(repos)
	return repos, nil
}

// present returns an error when the store's directory has vanished.
func (s *Store) present() error {
	_, err := os.Stat(filepath.Join(s.root, "repos"))
	return err
}

// RepositoryExists implements content.Repositories.
func (s *Store) RepositoryExists(repo string) bool {
	return oci.CheckRepository(repo) == nil && revalidate(s.repoPath(repo))
}

func (s *Store) repoPath(repo string, elem ...string) string {
	return filepath.Join(append([]string{s.root, "repos", encodeRepository(repo)}, elem...)...)
}

func (s *Store) blobPath(d digest.Digest) string {
	hex := d.Encoded()
	return filepath.Join(s.root, "blobs", d.Algorithm().String(), hex[:2], hex)
}

func digestPath(d digest.Digest) string {
	return filepath.Join(d.Algorithm().String(), d.Encoded())
}

// lockCommit is held shared while content gets its first reference, so that the
// collector, which holds it exclusively for moments, cannot remove it between
// the check that it is there and the reference.
func (s *Store) lockCommit(exclusive bool) (*os.File, error) {
	return lockFile(filepath.Join(s.root, "locks", "commit"), exclusive)
}

// repoLock serialises changes of tags and manifests of a repository over all
// servers. Lock files are shared by repositories with the same hash and never
// deleted, so that nobody waits on a file that is gone.
type repoLock struct{ f *os.File }

func (s *Store) lockRepo(repo string) (repoLock, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(repo))
	f, err := lockFile(filepath.Join(s.root, "locks", fmt.Sprintf("repo-%02x", h.Sum32()%256)), true)
	return repoLock{f}, err
}

func (l repoLock) unlock() { _ = l.f.Close() }

// nextOrder returns a number above all it gave before for this lock: the time
// in nanoseconds, or one more than the last when the servers' clocks disagree.
func (l repoLock) nextOrder(now time.Time) int64 {
	var buf [32]byte
	n, _ := l.f.ReadAt(buf[:], 0)
	last, _ := strconv.ParseInt(string(trimSpace(buf[:n])), 10, 64)
	order := max(now.UnixNano(), last+1)
	// Not synced: it matters only when clocks disagree, and then a lost number
	// is found again as the clocks' difference.
	_, _ = l.f.WriteAt([]byte(fmt.Sprintf("%-20d\n", order)), 0)
	return order
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\n') {
		b = b[:len(b)-1]
	}
	return b
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
