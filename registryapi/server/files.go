package server

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Server) listFiles(*http.Request) (any, error) { return s.fileList("") }

func (s *Server) listLogs(*http.Request) (any, error) { return s.fileList(s.logs.logs) }

func (s *Server) fileList(sub string) (any, error) {
	files, err := s.logs.list(sub)
	return files, fileError(err)
}

func (s *Server) uploadFile(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if s.logs.isLog(name) {
		return nil, wire.BadRequest("%s is among the central logs, which are not replaced: send what is to be added to /registry/logs", name)
	}
	return nil, fileError(s.logs.upload(name, s.withSpace(r)))
}

func (s *Server) sendLog(r *http.Request) (any, error) {
	name := r.PathValue("name")
	if path.Clean(name) == eventLog {
		return nil, wire.BadRequest("events are sent to /registry/log-event")
	}
	return nil, fileError(s.logs.append(name, s.withSpace(r)))
}

// withSpace returns the body of r, which ends with an error where the disk or the quota
// would have too little left.
func (s *Server) withSpace(r *http.Request) io.Reader {
	return &spaced{r: r.Body, check: s.store.CheckSpace, next: max(r.ContentLength, 0)}
}

// spaced asks for room at its beginning and every spaceEvery bytes.
type spaced struct {
	r     io.Reader
	check func(int64) error
	next  int64 // what is asked for with the next look
	left  int64 // until then
}

const spaceEvery = 16 << 20

func (s *spaced) Read(p []byte) (int, error) {
	if s.left <= 0 {
		if err := s.check(s.next); err != nil {
			return 0, err
		}
		s.next, s.left = 0, spaceEvery
	}
	n, err := s.r.Read(p)
	s.left -= int64(n)
	return n, err
}

// sendEvent adds one event, on one line, to the event log.
func (s *Server) sendEvent(r *http.Request) (any, error) {
	event, err := wire.Decode[json.RawMessage](r)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if len(event) == 0 || json.Compact(&line, event) != nil {
		return nil, wire.BadRequest("the body is not an event in JSON")
	}
	line.WriteByte('\n')
	return nil, fileError(s.logs.append(eventLog, &line))
}

func fileError(err error) error {
	switch {
	case errors.Is(err, errFileName):
		return wire.BadRequest("%v", err)
	case errors.Is(err, fs.ErrNotExist):
		return &wire.Error{Status: http.StatusNotFound, Code: wire.CodeNotFound, Message: "Not found", Cause: err}
	case errors.Is(err, content.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &wire.Error{Status: http.StatusInsufficientStorage, Message: content.ErrNoSpace.Error(), Cause: err}
	case errors.Is(err, syscall.EROFS):
		return &wire.Error{Status: http.StatusForbidden, Message: content.ErrReadOnly.Error(), Cause: err}
	case errors.Is(err, errEscapes()):
		return wire.BadRequest("the file name leaves the directory")
	}
	return err
}

// errEscapes returns the error of os.Root for a name that leads out of it by a link.
// Package os keeps the error to itself, so it is provoked.
var errEscapes = sync.OnceValue(func() error {
	root, err := os.OpenRoot("/")
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = root.Lstat("..")
	if outside, ok := errors.AsType[*fs.PathError](err); ok {
		return outside.Err
	}
	return err
})

func (s *Server) downloadFile(w http.ResponseWriter, r *http.Request) { s.download(w, r, "") }

// download serves a file below a directory.
func (s *Server) download(w http.ResponseWriter, r *http.Request, sub string) {
	f, err := s.logs.open(sub, r.PathValue("name"))
	if err != nil {
		s.api.WriteError(w, r, fileError(err))
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		s.api.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(s.paced(w), r, "", info.ModTime(), f)
}

// followEvery is how often a followed log is looked at for more.
const followEvery = 500 * time.Millisecond

// readLog serves a log; with ?follow=true it goes on with what is added, until
// the client leaves or the server drains.
func (s *Server) readLog(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("follow") != "true" {
		s.download(w, r, s.logs.logs)
		return
	}
	f, err := s.logs.open(s.logs.logs, r.PathValue("name"))
	if err != nil {
		s.api.WriteError(w, r, fileError(err))
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := s.paced(w)
	rc := http.NewResponseController(w)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if _, err := io.Copy(struct{ io.Writer }{out}, f); err != nil {
			return
		}
		_ = rc.Flush()
		select {
		case <-tick.C:
		case <-s.drained:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// logArchive streams all central logs as one compressed archive.
func (s *Server) logArchive(w http.ResponseWriter, r *http.Request) {
	files, err := s.logs.list(s.logs.logs)
	if err != nil {
		s.api.WriteError(w, r, fileError(err))
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", `attachment; filename="central-logs.tar.gz"`)
	gz := gzip.NewWriter(struct{ io.Writer }{s.paced(w)})
	tw := tar.NewWriter(gz)
	for _, file := range files {
		if err := s.archiveOne(tw, file.Name); err != nil {
			// The header has gone out: only a cut connection can say it.
			s.log.Warn("log archive was cut", zap.String("file", file.Name), zap.Error(err))
			panic(http.ErrAbortHandler)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) archiveOne(tw *tar.Writer, name string) error {
	f, err := s.logs.open(s.logs.logs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // rotated meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = tw.WriteHeader(&tar.Header{Name: "central-logs/" + name, Size: info.Size(), Mode: 0o644, ModTime: info.ModTime()})
	if err != nil {
		return err
	}
	_, err = io.Copy(tw, io.LimitReader(f, info.Size())) // it may grow meanwhile
	return err
}
