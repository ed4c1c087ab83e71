package transfer

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/oci"
)

// partialDir holds the files that are not complete yet.
const partialDir = ".partial"

// saveEvery is how many bytes are hashed between two saves of the hash's state.
// A save flushes the data first; what a crash of the machine can cost is this
// much again.
const saveEvery = 64 << 20

// partial is a blob on its way to becoming a file:
//
//	|== hashed ==|-- written, not hashed --|  hole  |-- written --|  hole  |
//	0          offset                                                    size
//
// Bytes written in order are hashed as they pass. Bytes written out of order
// (a striped pull) are remembered as extents and hashed, read back from the page
// cache, once the gap before them is closed. Beside the data lies a state file
// with the offset, the hash's state and the extents.
type partial struct {
	desc      ocispec.Descriptor
	dataPath  string
	statePath string

	// hashing is held by whoever hashes or saves, also while it reads and writes
	// files; it guards file, hash, saved, lost and buf. It is taken before mu.
	hashing sync.Mutex
	file    *os.File
	sync    func() error // file.Sync; tests make it fail
	lost    bool         // a flush failed: p is of no more use
	hash    hash.Hash
	saved   int64 // offset of the last saved state
	buf     []byte

	mu      sync.Mutex // guards what follows, for moments
	offset  int64      // hashed up to here
	extents extents
	resumed bool // some bytes come from an earlier run
	// scattered: there may be holes between the bytes of the file.
	scattered bool
}

// partialState is the state file. Unknown fields are ignored, a state that does
// not fit is dropped: it is a cache.
type partialState struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"`
	Offset  int64         `json:"offset"`
	Hash    []byte        `json:"hash"`
	Extents extents       `json:"extents,omitempty"`
	// Scattered means that only Offset and Extents tell which bytes are there.
	Scattered bool `json:"scattered,omitempty"`
}

// errLost: an earlier flush failed, and nothing of the file counts any more.
var errLost = errors.New("the file could not be written to the disk")

// openPartial opens or creates the partial file of desc below dir and takes up
// the state that an earlier run left.
func openPartial(dir string, desc ocispec.Descriptor) (*partial, error) {
	if err := oci.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	base := filepath.Join(dir, partialDir)
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(base, desc.Digest.Algorithm().String()+"-"+desc.Digest.Encoded())
	p := &partial{desc: desc, dataPath: name + ".data", statePath: name + ".json", hash: desc.Digest.Algorithm().Hash()}
	f, err := os.OpenFile(p.dataPath, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	p.file, p.sync = f, f.Sync
	if err := p.resume(); err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

// resume takes up saved state. Bytes of an in-order transfer that follow the
// last saved state are hashed again rather than fetched again: after the death
// of a process they are good, and after the death of the machine the digest
// tells.
func (p *partial) resume() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	size := min(info.Size(), p.desc.Size)
	var st partialState
	data, err := os.ReadFile(p.statePath)
	if err == nil && json.Unmarshal(data, &st) == nil && st.Digest == p.desc.Digest && st.Size == p.desc.Size &&
		st.Offset >= 0 && st.Offset <= size && st.Extents.valid(size) {
		if u, ok := p.hash.(encoding.BinaryUnmarshaler); ok && u.UnmarshalBinary(st.Hash) == nil {
			p.offset, p.saved, p.extents, p.scattered = st.Offset, st.Offset, st.Extents, st.Scattered
		} else {
			p.hash.Reset()
		}
	}
	if !p.scattered && size > p.offset {
		p.extents.add(p.offset, size)
	}
	if err := p.advance(); err != nil {
		return err
	}
	p.resumed = p.offset > 0 || len(p.extents) > 0
	return nil
}

// have returns how many bytes are there.
func (p *partial) have() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offset + p.extents.after(p.offset).total()
}

// next returns where an in-order transfer goes on.
func (p *partial) next() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offset
}

// missing returns what is not there.
func (p *partial) missing() []extent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.extents.gaps(p.offset, p.desc.Size)
}

// Write appends to the hashed bytes. It is for a transfer in order.
func (p *partial) Write(b []byte) (int, error) {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if p.offset+int64(len(b)) > p.desc.Size {
		return 0, fmt.Errorf("blob %s: more than the %d bytes of the manifest: %w", p.desc.Digest, p.desc.Size, ErrDigest)
	}
	n, err := p.file.WriteAt(b, p.offset)
	p.hashed(b[:n])
	if err != nil {
		return n, final(err)
	}
	return n, p.maybeSaveLocked()
}

// hashed takes b as the next bytes in order. The lock hashing is held.
func (p *partial) hashed(b []byte) {
	p.hash.Write(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset += int64(len(b))
}

// writeAt stores bytes out of order; advance hashes them later.
func (p *partial) writeAt(b []byte, at int64) error {
	if _, err := p.file.WriteAt(b, at); err != nil { // no lock: two writers never have the same range
		return final(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.extents.add(at, at+int64(len(b)))
	return nil
}

// advance hashes what follows the hashed bytes without a gap, while others go on
// writing elsewhere.
func (p *partial) advance() error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	for {
		n := min(p.contiguous(), 1<<20)
		if n == 0 {
			return nil
		}
		if p.buf == nil {
			p.buf = make([]byte, 1<<20)
		}
		if _, err := p.file.ReadAt(p.buf[:n], p.offset); err != nil {
			return final(err)
		}
		p.hashed(p.buf[:n])
		if err := p.maybeSaveLocked(); err != nil {
			return err
		}
	}
}

// contiguous returns how many bytes follow the hashed ones, and forgets extents
// that are hashed.
func (p *partial) contiguous() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.extents) > 0 && p.extents[0].To <= p.offset {
		p.extents = p.extents[1:]
	}
	if len(p.extents) == 0 || p.extents[0].From > p.offset {
		return 0
	}
	return p.extents[0].To - p.offset
}

func (p *partial) maybeSaveLocked() error {
	if p.offset-p.saved < saveEvery {
		return nil
	}
	return p.saveLocked()
}

// saveLocked flushes the data and then saves how far it got. The lock hashing is
// held.
func (p *partial) saveLocked() error {
	if p.lost {
		return final(errLost)
	}
	p.mu.Lock() // before the flush: extents written after it are not safe yet
	st := partialState{Digest: p.desc.Digest, Size: p.desc.Size, Offset: p.offset, Extents: p.extents.after(p.offset), Scattered: p.scattered}
	p.mu.Unlock()
	m, ok := p.hash.(encoding.BinaryMarshaler)
	if !ok {
		return nil // resuming then costs a hash of what is there
	}
	state, err := m.MarshalBinary()
	if err != nil {
		return final(err)
	}
	if st.Offset > 0 || len(st.Extents) > 0 { // else there is nothing to keep
		if err := p.flush(); err != nil {
			return final(err)
		}
	}
	st.Hash = state
	data, err := json.Marshal(st)
	if err != nil {
		return final(err)
	}
	o := atomicfile.Options{Mode: 0o644, Temp: filepath.Base(p.statePath) + ".tmp", Unsynced: true}
	if err := o.Write(p.statePath, data); err != nil {
		return final(err)
	}
	p.saved = st.Offset
	return nil
}

// flush puts the data on stable storage. When that fails, all of it is given up:
// the kernel may have dropped some, takes the rest for clean and would report a
// second flush as done. The lock hashing is held, or nobody else has p.
func (p *partial) flush() error {
	err := p.sync()
	if err == nil {
		return nil
	}
	p.lost = true
	if rerr := os.Remove(p.statePath); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, p.file.Truncate(0))
}

// restart forgets all bytes: some of them are wrong, and nobody can tell which.
func (p *partial) restart() error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	p.hash.Reset()
	p.saved = 0
	p.mu.Lock()
	p.offset, p.extents, p.resumed, p.scattered = 0, nil, false, false
	p.mu.Unlock()
	if err := os.Remove(p.statePath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return p.file.Truncate(0)
}

// verify returns ErrDigest when the hashed bytes are not the blob.
func (p *partial) verify() error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if p.offset != p.desc.Size {
		return fmt.Errorf("blob %s: have %d of %d bytes: %w", p.desc.Digest, p.offset, p.desc.Size, io.ErrUnexpectedEOF)
	}
	got := digest.NewDigest(p.desc.Digest.Algorithm(), p.hash)
	if got != p.desc.Digest {
		return fmt.Errorf("blob %s: got %s: %w", p.desc.Digest, got, ErrDigest)
	}
	return nil
}

// close keeps the state for the next run.
func (p *partial) close() error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if p.lost {
		return p.file.Close()
	}
	return errors.Join(p.saveLocked(), p.file.Close())
}

// commit moves the verified file to its place, durably, and forgets the state.
func (p *partial) commit(path string) error {
	// What another program may have left behind the end was never hashed.
	if err := errors.Join(p.file.Truncate(p.desc.Size), p.flush()); err != nil {
		p.file.Close()
		return err
	}
	if err := p.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(p.dataPath, path); err != nil {
		return err
	}
	if err := os.Remove(p.statePath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// scatter prepares for bytes out of order. The state says so before the first
// of them is written: after a crash the tail of the file is then not taken for
// bytes without holes.
func (p *partial) scatter() error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	p.mu.Lock()
	p.scattered = true
	p.mu.Unlock()
	return p.saveLocked()
}

// straighten prepares for bytes in order: what lies beyond a gap is dropped.
func (p *partial) straighten() error {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if !p.scattered {
		return nil
	}
	if err := p.file.Truncate(p.offset); err != nil {
		return err
	}
	p.mu.Lock()
	p.extents, p.scattered = nil, false
	p.mu.Unlock()
	return p.saveLocked()
}
