package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/filelock"
	"github.com/ankacluster/ankacluster/registryapi"
)

// logStore keeps uploaded files and central logs below one directory, which
// nothing it is asked for can leave. Servers may share it: appends are made
// under a lock on the file.
type logStore struct {
	dir     string // files; logs are in dir/logs
	logs    string // below dir, slash-separated
	keep    time.Duration
	maxSize int64
	keepOld bool // rename a full log instead of starting it anew
	daily   bool
	log     *zap.Logger
}

// eventLog is where events go, below the central logs.
const eventLog = "event/event.log"

// openRoot opens the directory, which is made when it is missing: an upgrade of
// the system may have removed it.
func (l *logStore) openRoot(sub string) (*os.Root, error) {
	dir := l.dir
	if sub != "" {
		dir = path.Join(dir, sub)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// errFileName: a name that leaves the directory, or is none.
var errFileName = errors.New("the file name is not a plain relative path")

func checkFileName(name string) error {
	if name == "" || len(name) > 1024 || !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %.200q", errFileName, name)
	}
	return nil
}

// isLog reports whether a file is one of the central logs.
func (l *logStore) isLog(name string) bool {
	return strings.HasPrefix(path.Clean("/"+name)+"/", l.logs+"/")
}

// unfinished ends the name of a file that is being uploaded.
const unfinished = ".upload"

// upload stores a file as one step: it appears when all of it has arrived.
func (l *logStore) upload(name string, r io.Reader) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	root, err := l.openRoot("")
	if err != nil {
		return err
	}
	defer root.Close()
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := atomicfile.Options{Root: root, Mode: 0o644, Temp: path.Base(name) + ".*" + unfinished}.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Commit()
}

// append adds r to a central log. What arrives is added in whole reads, so that
// lines of two senders do not mix within a read.
func (l *logStore) append(name string, r io.Reader) error {
	if err := checkFileName(name); err != nil {
		return err
	}
	root, err := l.openRoot(l.logs)
	if err != nil {
		return err
	}
	defer root.Close()
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	buf := make([]byte, 64<<10)
	for {
		n, rerr := io.ReadAtLeast(r, buf, 1)
		if n > 0 {
			if err := l.appendOnce(root, name, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}

func (l *logStore) appendOnce(root *os.Root, name string, p []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := filelock.Lock(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if l.maxSize > 0 && info.Size()+int64(len(p)) > l.maxSize && info.Size() > 0 {
		if err := l.rotate(root, name, time.Now()); err != nil {
			return err
		}
		next, err := root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer next.Close()
		f = next
	}
	_, err = f.Write(p)
	return err
}

// rotate ends a log: it gets a dated name, or goes.
func (l *logStore) rotate(root *os.Root, name string, now time.Time) error {
	if !l.keepOld {
		return root.Remove(name)
	}
	return root.Rename(name, fmt.Sprintf("%s.%s", name, now.UTC().Format("20060102T150405.000000000")))
}

// Retention touches only names that we give or that logs have; whatever else
// somebody put there is left alone.
var logName = regexp.MustCompile(`\.log(\.\d{8}T\d{6}\.\d{9})?(\.gz)?$`)
var rotatedName = regexp.MustCompile(`\.log\.\d{8}T\d{6}\.\d{9}$`)

// tidy removes logs older than the retention and ends yesterday's.
func (l *logStore) tidy(now time.Time) {
	root, err := l.openRoot(l.logs)
	if err != nil {
		return
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !logName.MatchString(name) {
			return nil // one unreadable directory does not stop the rest
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		switch {
		case l.keep > 0 && now.Sub(info.ModTime()) > l.keep:
			err = root.Remove(name)
		case l.daily && !rotatedName.MatchString(name) && info.Size() > 0 && info.ModTime().UTC().YearDay() != now.UTC().YearDay():
			err = l.rotate(root, name, info.ModTime())
		}
		if err != nil {
			l.log.Warn("log could not be tidied", zap.String("file", name), zap.Error(err))
		}
		return nil
	})
	if err != nil {
		l.log.Warn("logs could not be tidied", zap.Error(err))
	}
}

// list returns the files below a directory, by name.
func (l *logStore) list(sub string) ([]registryapi.File, error) {
	root, err := l.openRoot(sub)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files := []registryapi.File{}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(name, unfinished) {
			return nil
		}
		if info, err := e.Info(); err == nil {
			files = append(files, registryapi.File{Name: name, Size: info.Size(), Modified: info.ModTime().Unix()})
		}
		return nil
	})
	slices.SortFunc(files, func(a, b registryapi.File) int { return strings.Compare(a.Name, b.Name) })
	return files, err
}

// open opens a file below a directory for reading.
func (l *logStore) open(sub, name string) (*os.File, error) {
	if err := checkFileName(name); err != nil {
		return nil, err
	}
	root, err := l.openRoot(sub)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fs.ErrNotExist
	}
	return f, nil
}
