package fs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Segments are cut at segmentSize and the newest keepSegments are kept: some
// hundred thousand changes. Who is further behind compares everything.
const (
	segmentSize  = 8 << 20
	keepSegments = 8
)

// journal is the list of changes, shared by all servers: lines of JSON in
// numbered files below a directory named by an epoch. A new epoch means that
// older cursors are worthless.
type journal struct {
	s       *Store
	dir     string
	segment int64 // size at which a segment is ended
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change of this process; guarded by mu
	untold  [][]byte      // changes that found no room on the disk, neither as intent; guarded by mu
}

func newJournal(s *Store) *journal {
	return &journal{s: s, dir: filepath.Join(s.root, "journal"), segment: segmentSize, changed: make(chan struct{})}
}

// record carries out commit and tells of it. An intent on disk says before what
// is about to change, so that a process that dies in between leaves a trace
// that another turns into a record (see settle).
func (j *journal) record(c content.Change, commit func() error) error {
	c.Time = time.Now()
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	intent, err := j.intend(line)
	if err != nil && !(errors.Is(err, content.ErrNoSpace) && deletes(c.Kind)) {
		return err
	}
	if err := commit(); err != nil {
		intent.drop()
		return ioError(err)
	}
	// What was committed has happened, whether or not it can be told now: on a
	// full disk the intent stays, and Settle tells of it once there is room.
	if j.append(line) == nil {
		intent.drop()
		return nil
	}
	if intent == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.untold = append(j.untold, line)
	}
	intent.keep()
	return nil
}

// deletes reports whether a change makes room. On a full disk it is made even
// where its intent finds no room: else nothing could ever be deleted again.
func deletes(k string) bool {
	return k == registryapi.TagDeleted || k == registryapi.ManifestDeleted || k == registryapi.RepositoryDeleted
}

// intent is the file that tells of a change before it is made. Its lock tells
// that the process lives. A nil *intent is none.
type intent struct{ f *os.File }

func (j *journal) intend(line []byte) (*intent, error) {
	f, err := lockFile(filepath.Join(j.s.root, "tmp", "intent-"+uuid.NewString()), true)
	if err != nil {
		return nil, err
	}
	i := &intent{f}
	if _, err := f.Write(line); err != nil {
		i.drop()
		return nil, ioError(err)
	}
	return i, nil
}

func (i *intent) keep() {
	if i != nil {
		_ = i.f.Close()
	}
}

func (i *intent) drop() {
	if i != nil {
		_ = os.Remove(i.f.Name())
		_ = i.f.Close()
	}
}

func (j *journal) append(line []byte) error {
	lock, err := lockFile(filepath.Join(j.s.root, "locks", "journal"), true)
	if err != nil {
		return err
	}
	defer lock.Close()
	epoch, segments, err := j.segments()
	if err != nil {
		return err
	}
	if epoch == "" {
		epoch = strconv.FormatInt(time.Now().UnixNano(), 36)
		if err := atomicfile.MakeDir(filepath.Join(j.dir, epoch)); err != nil {
			return ioError(err)
		}
	}
	last := 1
	if len(segments) > 0 {
		last = segments[len(segments)-1]
	}
	path := j.path(epoch, last)
	if info, err := os.Stat(path); err == nil && info.Size() >= j.segment {
		last++
		path = j.path(epoch, last)
		for _, n := range segments {
			if n <= last-keepSegments {
				_ = os.Remove(j.path(epoch, n))
			}
		}
	}
	if err := appendLine(path, line); err != nil {
		return ioError(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
	return nil
}

// appendLine adds a line, after ending one that a crash has torn.
func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	out := make([]byte, 0, len(line)+2)
	var tail [1]byte
	if end > 0 {
		if _, err := f.ReadAt(tail[:], end-1); err != nil {
			return err
		}
		if tail[0] != '\n' {
			out = append(out, '\n')
		}
	}
	out = append(append(out, line...), '\n')
	if _, err := f.WriteAt(out, end); err != nil {
		return err
	}
	return f.Sync()
}

func (j *journal) path(epoch string, segment int) string {
	return filepath.Join(j.dir, epoch, fmt.Sprintf("%08d", segment))
}

// segments returns the newest epoch and its segments in order.
func (j *journal) segments() (string, []int, error) {
	epochs, err := names(j.dir)
	if err != nil || len(epochs) == 0 {
		return "", nil, err
	}
	sort.Strings(epochs)
	epoch := epochs[len(epochs)-1]
	files, err := names(filepath.Join(j.dir, epoch))
	if err != nil {
		return "", nil, err
	}
	var ns []int
	for _, f := range files {
		if n, err := strconv.Atoi(f); err == nil {
			ns = append(ns, n)
		}
	}
	sort.Ints(ns)
	return epoch, ns, nil
}

// place is a place in the journal; the zero place is before the first epoch.
type place struct {
	epoch   string
	segment int
	offset  int64
}

// cursor is the text that readCursor reads.
func (p place) cursor() content.Cursor {
	if p.epoch == "" {
		return "0"
	}
	return content.Cursor(fmt.Sprintf("%s-%d-%d", p.epoch, p.segment, p.offset))
}

// readCursor returns the place of a cursor; any text that is none is the zero place,
// from which Changes asks for a reset.
func readCursor(c content.Cursor) place {
	parts := strings.Split(string(c), "-")
	if len(parts) != 3 {
		return place{}
	}
	segment, err1 := strconv.Atoi(parts[1])
	offset, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil || offset < 0 {
		return place{}
	}
	return place{parts[0], segment, offset}
}

// Changes implements content.Journal.
func (s *Store) Changes(after content.Cursor, limit int) (changes []content.Change, next content.Cursor, reset bool, err error) {
	changes, at, reset, err := s.journal.read(readCursor(after), limit)
	return changes, at.cursor(), reset, err
}

func (j *journal) read(after place, limit int) (changes []content.Change, next place, reset bool, err error) {
	epoch, segments, err := j.segments()
	if err != nil {
		return nil, after, false, err
	}
	if epoch == "" {
		return nil, place{}, false, nil // nothing was ever pushed
	}
	// A place beyond the end was given by a journal that is gone, as after a
	// restore of the directory from an older copy.
	known := after.epoch == epoch && len(segments) > 0 &&
		after.segment >= segments[0] && after.segment <= segments[len(segments)-1] &&
		after.offset <= fileSize(j.path(epoch, after.segment))
	if !known {
		next, err := j.end(epoch, segments)
		return nil, next, true, err
	}
	next = after
	for _, n := range segments {
		if n < next.segment {
			continue
		}
		if n > next.segment {
			next = place{epoch, n, 0}
		}
		var more []content.Change
		more, next.offset, err = readChanges(j.path(epoch, n), next.offset, limit-len(changes))
		changes = append(changes, more...)
		if err != nil || len(changes) >= limit {
			return changes, next, false, err
		}
	}
	return changes, next, false, nil
}

func (j *journal) end(epoch string, segments []int) (place, error) {
	if len(segments) == 0 {
		return place{epoch, 1, 0}, nil
	}
	last := segments[len(segments)-1]
	data, err := readFile(j.path(epoch, last))
	if err != nil {
		return place{}, err
	}
	return place{epoch, last, int64(bytes.LastIndexByte(data, '\n') + 1)}, nil
}

func readChanges(path string, offset int64, limit int) ([]content.Change, int64, error) {
	f, err := open(path)
	if err != nil {
		return nil, offset, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= offset {
		return nil, offset, err
	}
	data := make([]byte, info.Size()-offset)
	n, err := f.ReadAt(data, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, offset, err
	}
	data = data[:n]
	var changes []content.Change
	for len(changes) < limit {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			break // the rest is being written
		}
		var c content.Change
		if err := json.Unmarshal(data[:end], &c); err == nil {
			changes = append(changes, c)
		}
		data, offset = data[end+1:], offset+int64(end)+1
	}
	return changes, offset, nil
}

// Changed implements content.Journal.
func (s *Store) Changed() <-chan struct{} {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.changed
}

// Settle implements content.Journal.
func (s *Store) Settle() (int, error) {
	files, err := filepath.Glob(filepath.Join(s.root, "tmp", "intent-*"))
	if err != nil {
		return 0, err
	}
	settled := 0
	s.journal.mu.Lock()
	untold := s.journal.untold
	s.journal.untold = nil
	s.journal.mu.Unlock()
	for i, line := range untold {
		if err := s.journal.append(line); err != nil {
			s.journal.mu.Lock()
			s.journal.untold = append(s.journal.untold, untold[i:]...)
			s.journal.mu.Unlock()
			return settled, err
		}
		settled++
	}
	for _, path := range files {
		f, err := tryLockFile(path)
		if err != nil || f == nil {
			continue // gone, or its process lives
		}
		line, err := readAll(f)
		if err == nil && json.Valid(line) && len(line) > 0 {
			err = s.journal.append(line)
			settled++
		}
		if err == nil {
			_ = os.Remove(path)
		}
		_ = f.Close()
	}
	return settled, nil
}
