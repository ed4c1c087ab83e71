package balancer

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"sync"
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

// readAhead reads a small answer whole, so that a reset in its middle is this
// attempt's failure and not the caller's. What is larger than the limit, or
// surely a stream, is left to be read by the caller.
func (a *attempt) readAhead(resp *http.Response) error {
	limit := a.p.b.cfg.ReadAhead
	switch {
	case limit == 0 || resp.Body == nil || resp.Body == http.NoBody || resp.ContentLength > limit:
		return nil
	case resp.ContentLength < 0 && wholeType(resp.Header.Get("Content-Type")):
		return a.readUntilLate(resp, limit)
	case resp.ContentLength < 0:
		return nil
	}
	data := make([]byte, resp.ContentLength)
	_, err := io.ReadFull(resp.Body, data)
	resp.Body.Close()
	a.read.set(data)
	resp.Body = &a.read
	return err
}

// readUntilLate reads an answer of unknown length. It may be a document, or
// events that come one by one for hours: what is not whole when the attempt's
// alarm rings is passed on as it comes.
func (a *attempt) readUntilLate(resp *http.Response, limit int64) error {
	body := &aheadBody{src: resp.Body, limit: limit, wanted: make(chan struct{}), ended: make(chan struct{})}
	a.ahead.Store(body)
	if a.rang.Load() {
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
	}
	return nil
}

// hold reads an answer that may yet be replaced by another endpoint's, so that
// its connection need not be kept. How it ends does not matter.
func (a *attempt) hold(resp *http.Response) {
	if resp.Body == nil || resp.Body == http.NoBody {
		return
	}
	limit := max(a.p.b.cfg.ReadAhead, 64<<10)
	data, _ := io.ReadAll(io.LimitReader(resp.Body, limit+1))
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

// wholeType says that an answer without a length is most likely a document and
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
