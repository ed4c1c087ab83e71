package attempt

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
)

// readBody is an answer's body that was read ahead.
type readBody struct {
	bytes.Reader
	data []byte // all of it
}

func newReadBody(data []byte) *readBody {
	b := new(readBody)
	b.set(data)
	return b
}

func (b *readBody) set(data []byte) {
	b.data = data
	b.Reset(data)
}

func (*readBody) Close() error { return nil }

// IsRead reports whether a body of an answer was read whole.
func IsRead(body io.ReadCloser) bool {
	_, read := body.(*readBody)
	return read || body == http.NoBody
}

// Kept is an answer that may be read although resp has been read, too; nil where that
// cannot be.
func Kept(resp *http.Response) *http.Response {
	if resp == nil {
		return nil
	}
	again := *resp
	if body, whole := resp.Body.(*readBody); whole {
		again.Body = newReadBody(body.data)
	} else if resp.Body != http.NoBody {
		return nil
	}
	return &again
}

// readAhead reads a small answer whole, so that a reset in its middle is this
// attempt's failure and not the caller's. What is larger than the limit, or
// surely a stream, is left to be read by the caller.
func (a *attempt) readAhead(resp *http.Response) error {
	limit := a.p.s.cfg.ReadAhead
	switch {
	case limit == 0 || resp.Body == nil || resp.Body == http.NoBody || resp.ContentLength > limit:
		return nil
	case resp.ContentLength >= 0:
		return a.readWhole(resp)
	case declaresStream(resp):
		return nil
	case wholeType(resp.Header.Get("Content-Type")) || a.p.hedgeable && a.p.route.Habit.Documents():
		return a.readUntilLate(resp, limit)
	}
	return nil
}

// readWhole reads an answer of known length.
func (a *attempt) readWhole(resp *http.Response) (err error) {
	data := make([]byte, resp.ContentLength)
	n := 0
	a.reading.Store(true)
	if len(data) > 0 && a.rang.Load() {
		a.watchSilence(time.Now())
	}
	for n < len(data) && err == nil {
		var more int
		more, err = resp.Body.Read(data[n:])
		if n += more; n < len(data) {
			a.got.Store(clock.Nano(time.Now()))
		}
	}
	a.reading.Store(false)
	resp.Body.Close()
	a.read.set(data[:n])
	resp.Body = &a.read
	switch {
	case n == len(data):
		return nil
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

// watchSilence has the attempt given up when no byte comes for the stall time. It is
// for answers that are late: nearly all others are read at once.
func (a *attempt) watchSilence(now time.Time) {
	al := &alarm{at: now.Add(a.p.s.cfg.Stall.Timeout), attempt: a, ring: (*attempt).onSilence}
	if a.silence.CompareAndSwap(nil, al) {
		a.setSilence(al)
	}
}

func (a *attempt) setSilence(al *alarm) {
	a.p.s.alarms.add(al)
	if a.over.Load() {
		a.p.s.alarms.remove(al) // it ended meanwhile
	}
}

// onSilence runs when nothing may have come for too long.
func (a *attempt) onSilence() {
	if a.over.Load() {
		return
	}
	now := time.Now()
	al, cfg := a.silence.Load(), &a.p.s.cfg
	due := clock.At(a.got.Load()).Add(cfg.Stall.Timeout)
	if now.Sub(al.at) > cfg.Slow.Pause { // the machine slept
		due = now.Add(cfg.Slow.Pause)
	}
	if due.After(now) {
		al.at = due
		a.setSilence(al)
		return
	}
	a.giveUp(ErrStalled)
}

// readUntilLate reads an answer of unknown length. It may be a document, or
// events that come one by one for hours: what is not whole when the attempt's
// alarm rings is passed on as it comes, unless its kind is known to end.
func (a *attempt) readUntilLate(resp *http.Response, limit int64) error {
	body := &aheadBody{src: resp.Body, limit: limit, wanted: make(chan struct{}), ended: make(chan struct{})}
	a.ahead.Store(body)
	if a.rang.Load() && !a.p.doubts() {
		body.want()
	}
	go body.fill() // ends with the answer, which the caller closes
	select {
	case <-body.wanted:
	case <-body.ended:
	}
	body.want()
	data, err := body.whole()
	switch {
	case err == io.EOF:
		resp.Body.Close()
		resp.Body = newReadBody(data)
	case err != nil:
		resp.Body.Close()
		return err
	default:
		resp.Body = body
		a.oversize = int64(len(data)) > limit && a.p.hedgeable && a.p.route.Habit.Documents()
	}
	return nil
}

// hold reads an answer that may yet be replaced by another endpoint's, so that
// its connection need not be kept. How it ends does not matter, and one
// that does not end in time is cut.
func (a *attempt) hold(resp *http.Response) {
	if resp.Body == nil || resp.Body == http.NoBody {
		return
	}
	limit := max(a.p.s.cfg.ReadAhead, 64<<10)
	enough := time.AfterFunc(a.p.s.cfg.Stall.Timeout, func() { a.cancel(ErrStalled) })
	data, _ := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	enough.Stop()
	if int64(len(data)) > limit {
		resp.Body = &prefixedBody{Reader: io.MultiReader(bytes.NewReader(data), resp.Body), Closer: resp.Body}
		return
	}
	resp.Body.Close()
	resp.Body = newReadBody(data)
	if resp.ContentLength != int64(len(data)) {
		resp.ContentLength = int64(len(data))
		resp.Header.Del("Content-Length")
	}
}

type prefixedBody struct {
	io.Reader
	io.Closer
}

// wholeType reports whether an answer without a length is most likely a document and
// not an endless stream.
func wholeType(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || kind == "text/html" || kind == "application/xml")
}

// aheadBody is an answer's body that a goroutine of its own reads, until its
// end, its limit or until the reader wants it piece by piece.
type aheadBody struct {
	src    io.ReadCloser
	limit  int64
	once   sync.Once
	wanted chan struct{} // closed when the pieces are wanted
	ended  chan struct{} // closed when fill has ended

	mu   sync.Mutex // guards all below; after ended it is the reader's alone
	data []byte     // read and not given yet
	err  error      // how src ended, nil while it goes on
}

// size is how much has been read.
func (b *aheadBody) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.data)
}

func (b *aheadBody) want() { b.once.Do(func() { close(b.wanted) }) }

// fill reads on until it has to stop; a Read that has begun is the last one.
func (b *aheadBody) fill() {
	defer close(b.ended)
	buf := make([]byte, 4<<10)
	for {
		n, err := b.src.Read(buf)
		b.mu.Lock()
		b.data, b.err = append(b.data, buf[:n]...), err
		full := int64(len(b.data)) > b.limit
		b.mu.Unlock()
		if err != nil || full {
			return
		}
		select {
		case <-b.wanted:
			return
		default:
		}
	}
}

// whole is what has been read, and how the answer ended: nil while it goes on.
func (b *aheadBody) whole() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data, b.err
}

func (b *aheadBody) Read(p []byte) (int, error) {
	if n := b.take(p); n > 0 || len(p) == 0 {
		return n, nil
	}
	<-b.ended
	if n := b.take(p); n > 0 {
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.src.Read(p)
}

func (b *aheadBody) take(p []byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n
}

func (b *aheadBody) Close() error { return b.src.Close() }
