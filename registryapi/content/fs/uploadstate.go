package fs

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// runningHash is a hash whose state can be saved.
type runningHash struct {
	alg digest.Algorithm
	hash.Hash
}

func newRunningHash(alg digest.Algorithm) (*runningHash, error) {
	switch alg {
	case "", digest.SHA256:
		return &runningHash{digest.SHA256, sha256.New()}, nil
	case digest.SHA512:
		return &runningHash{digest.SHA512, sha512.New()}, nil
	}
	return nil, fmt.Errorf("%w: algorithm %.32q is not supported", content.ErrDigestInvalid, alg)
}

func (h *runningHash) digest() digest.Digest { return digest.NewDigest(h.alg, h) }

func (h *runningHash) save() ([]byte, error) {
	return h.Hash.(encoding.BinaryMarshaler).MarshalBinary()
}

func (h *runningHash) restore(state []byte) error {
	return h.Hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// uploadState is the file uploads/<id>/state: the upload up to Offset is on
// stable storage and its hash state is Hash.
type uploadState struct {
	Repository string           `json:"repository"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	Offset     int64            `json:"offset"`
	Hash       []byte           `json:"hash"`
	Started    time.Time        `json:"started"`
	// Boot is the run of the operating system that wrote the data. Under the
	// same one, bytes beyond Offset are still what the process wrote.
	Boot string `json:"boot,omitempty"`
}

func (u *upload) loadState() (uploadState, error) {
	var st uploadState
	data, err := readFile(filepath.Join(u.dir, "state"))
	if notExist(err) {
		return st, fmt.Errorf("%w: %s", content.ErrUploadUnknown, u.id)
	}
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("%w: %s: its state is damaged", content.ErrUploadUnknown, u.id)
	}
	return st, nil
}

// saveState is called when all of offset is on stable storage.
func (u *upload) saveState() error {
	started := time.Now()
	if old, err := u.loadState(); err == nil {
		started = old.Started
	}
	state, err := u.sum.save()
	if err != nil {
		return err
	}
	data, err := json.Marshal(uploadState{
		Repository: u.repo, Algorithm: u.sum.alg, Offset: u.offset, Hash: state, Started: started, Boot: bootID(),
	})
	if err != nil {
		return err
	}
	// Unsynced: an older state after a crash is an older offset, and a torn one ends
	// the upload. Both are only slower.
	if err := (atomicfile.Options{Mode: 0o644, Temp: "state.*", Unsynced: true}).Write(filepath.Join(u.dir, "state"), data); err != nil {
		return err
	}
	u.synced = u.offset
	return nil
}

// checkpoint makes the upload so far durable.
func (u *upload) checkpoint() error {
	if u.synced == u.offset || u.lost {
		return nil
	}
	if err := u.flush(); err != nil {
		return err
	}
	return u.saveState()
}

// errLost: an earlier flush failed, and what was received is not all there.
var errLost = errors.New("the upload could not be written to the disk: it goes on when it is opened anew")

// flush puts the data on stable storage. When that fails, what was written since
// the last time is thrown away: the kernel may have dropped some of it, takes
// the rest for clean and would report a second flush as done. Whoever opens the
// upload anew goes on from there.
func (u *upload) flush() error {
	err := u.s.sync(u.data)
	if err != nil {
		u.lost = true
		if u.data.Truncate(u.synced) != nil {
			_ = os.Remove(filepath.Join(u.dir, "data")) // without it the upload is unknown
		}
	}
	return err
}

// recover restores the hash state and takes in or cuts off what was written
// after it was saved.
func (u *upload) recover(st uploadState) error {
	info, err := u.data.Stat()
	if err != nil {
		return err
	}
	sum, err := newRunningHash(st.Algorithm)
	if err != nil || st.Offset < 0 || info.Size() < st.Offset || sum.restore(st.Hash) != nil {
		return fmt.Errorf("%w: %s: its data is damaged", content.ErrUploadUnknown, u.id)
	}
	u.sum, u.offset, u.synced = sum, st.Offset, st.Offset
	if _, err := u.data.Seek(st.Offset, io.SeekStart); err != nil {
		return err
	}
	if info.Size() > st.Offset {
		if st.Boot == "" || st.Boot != bootID() {
			return u.data.Truncate(st.Offset)
		}
		buf := getBuffer()
		defer putBuffer(buf)
		n, err := io.CopyBuffer(struct{ io.Writer }{u.sum}, struct{ io.Reader }{u.data}, *buf)
		u.offset += n
		return err
	}
	return nil
}

// bootID identifies this run of this machine, or is "" where that is not known.
var bootID = sync.OnceValue(func() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
})
