package fs

import (
	"errors"
	"io"
	"sync"
	"time"
)

// bufferSize is large enough that a system call's cost does not show and small
// enough that ten uploads at a time stay within a few megabytes.
const bufferSize = 512 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

func getBuffer() *[]byte  { return buffers.Get().(*[]byte) }
func putBuffer(b *[]byte) { buffers.Put(b) }

// copyFrom adds r to the data file and the hash, and checkpoints now and then.
// A piece is hashed while the next is received: where the processor has no
// instructions for it, hashing is the slowest step of all.
func (u *upload) copyFrom(r io.Reader) (total int64, err error) {
	bufs := [2]*[]byte{getBuffer(), getBuffer()}
	defer putBuffer(bufs[0])
	defer putBuffer(bufs[1])
	var hashing sync.WaitGroup // of the piece before, in the other buffer
	defer hashing.Wait()
	flushed := u.offset
	for turn := 0; ; turn++ {
		buf := *bufs[turn%2]
		n, rerr := fill(r, buf)
		if n > 0 {
			p := buf[:n]
			if _, err := u.data.Write(p); err != nil {
				// A short write must not stay: the hash has not seen it.
				_ = u.data.Truncate(u.offset)
				_, _ = u.data.Seek(u.offset, io.SeekStart)
				return total, err
			}
			hashing.Wait()
			hashing.Go(func() { _, _ = u.sum.Write(p) })
			u.offset += int64(n)
			total += int64(n)
		}
		if u.offset-flushed >= flushEvery {
			startWriteback(u.data, flushed, u.offset-flushed)
			flushed = u.offset
		}
		if u.offset-u.synced >= checkpointEvery {
			if err := u.s.checkSpace(0); err != nil {
				return total, err
			}
			hashing.Wait()
			if err := u.checkpoint(); err != nil {
				return total, err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF):
			return total, nil
		case rerr != nil:
			return total, rerr
		}
	}
}

// fill reads until p is full or r ends, so that the file is written in large
// pieces whatever the network's are. A slow sender's bytes do not wait for that:
// what is in the file survives the death of the process.
func fill(r io.Reader, p []byte) (n int, err error) {
	began := time.Now()
	for n < len(p) && err == nil && (n == 0 || time.Since(began) < fillFor) {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// fillFor is long enough for a gigabit line to fill a buffer.
const fillFor = 20 * time.Millisecond

// flushEvery is how much is written before the kernel is asked to begin writing
// it to the disk, so that the final sync has little left to wait for.
const flushEvery = 8 << 20
