// Package download is the larger answers of a pool, read as they come. One that says enough
// of itself (a strong ETag, or its digest in its path) goes on at another endpoint, from
// the byte it had reached, when its own breaks, stalls or crawls; its reader does not
// notice. Any other ends in an error then. None restarts from zero, and none ends well
// after a wrong byte that its digest shows.
package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/download/splice"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// transfer is the body of an answer of known length. One that can be continued
// goes on at another endpoint, from the byte it had reached, when the serving one
// breaks, stalls or crawls. What it continues with must be the same content: same
// strong ETag, a 206 with exactly the range asked for. It never starts again from
// zero, and ends in an error rather than in a wrong byte. Any other one ends in an
// error when no byte comes for the stall time. It is used by one reader.
type transfer struct {
	d   *Downloads
	req *http.Request
	cur *attempt.Body // nil between endpoints
	raw *splice.Mover // cur's connection, once it is taken from the transport
	claim
	trailers bool
	sum      hash.Hash // nil when there is nothing to compare with
	failed   error

	watchdog *time.Timer
	stalls   atomic.Int64 // when the endpoint has been silent for too long, nano; 0 while it is not waited for
	pace     pace
}

// claim is what an answer says of itself: which bytes it is, and of what.
type claim struct {
	off, end, total int64 // off is that of the next byte to be read
	continues       bool  // it says enough to be continued
	etag            string
	encoding        string
	digest          string
}

// ErrDigest: a download's bytes are not those that its digest names.
var ErrDigest = errors.New("content does not match its digest")

// Config is what concerns the downloads of a pool.
type Config struct {
	Stall attempt.StallConfig
	Retry attempt.RetryConfig
	// Pause is by how much a timer may fire late before the machine is taken to have paused.
	Pause time.Duration
	// VerifyDigests: what passes through this process is hashed. Splice: it need not pass
	// through this process where the kernel can move it.
	VerifyDigests bool
	Splice        bool
}

// Downloads are the larger answers of a pool. They are safe for concurrent use.
type Downloads struct {
	cfg     Config
	log     *zap.Logger
	sender  *attempt.Sender
	resumes atomic.Uint64 // continued at another endpoint
}

// Resumes is how many downloads were continued at another endpoint.
func (d *Downloads) Resumes() uint64 { return d.resumes.Load() }

// New returns the downloads of the pool that sender sends for.
func New(cfg Config, log *zap.Logger, sender *attempt.Sender) *Downloads {
	return &Downloads{cfg: cfg, log: log, sender: sender}
}

// Watch replaces the body of an answer of known length that is read as it comes. Upgraded
// connections, and what says that it is a stream, pass through as they are: silence is no
// fault of theirs.
func (d *Downloads) Watch(resp *http.Response) {
	body, ok := resp.Body.(*attempt.Body)
	if !ok || resp.ContentLength <= 0 {
		return
	}
	t := &transfer{d: d, req: body.Request(), cur: body, claim: claim{end: resp.ContentLength, total: resp.ContentLength}, trailers: len(resp.Trailer) > 0}
	if t.req.Method == http.MethodGet {
		t.identify(resp)
	}
	resp.Body = t
}

// identify notes what another endpoint's bytes must be to continue the answer.
func (t *transfer) identify(resp *http.Response) {
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.Header.Get("Accept-Ranges") == "none" {
			return
		}
	case http.StatusPartialContent:
		first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || resp.ContentLength != last-first+1 {
			return
		}
		t.off, t.end, t.total = first, last+1, total
	default:
		return
	}
	t.etag = strongETag(resp.Header.Get("ETag"))
	t.encoding = resp.Header.Get("Content-Encoding")
	if t.encoding == "" {
		t.digest = digestOf(t.req.URL.Path) // it names the content itself
	}
	t.continues = t.etag != "" || t.digest != ""
	// What is small costs nothing.
	if (t.d.cfg.VerifyDigests || t.total < smallDownload) && t.digest != "" && t.off == 0 && t.end == t.total {
		t.sum = sha256.New()
	}
}

// smallDownload is what costs nothing to hash.
const smallDownload = 1 << 20

// strongETag returns tag if it promises equal bytes, else "".
func strongETag(tag string) string {
	if len(tag) >= 2 && tag[0] == '"' {
		return tag
	}
	return ""
}

// digestOf returns the hex sum that names the content of a path, or "".
func digestOf(p string) string {
	sum, ok := strings.CutPrefix(path.Base(p), "sha256:")
	if !ok || len(sum) != 2*sha256.Size {
		return ""
	}
	if _, err := hex.DecodeString(sum); err != nil {
		return ""
	}
	return strings.ToLower(sum)
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" and nothing looser.
func parseContentRange(s string) (first, last, total int64, err error) {
	bad := fmt.Errorf("content range %q", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, 0, bad
	}
	span, size, ok := strings.Cut(rest, "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, bad
	}
	for _, f := range []struct {
		text string
		to   *int64
	}{{from, &first}, {to, &last}, {size, &total}} {
		n, err := strconv.ParseUint(f.text, 10, 63)
		if err != nil {
			return 0, 0, 0, bad
		}
		*f.to = int64(n)
	}
	if first > last || last >= total {
		return 0, 0, 0, bad
	}
	return first, last, total, nil
}

func (t *transfer) Read(p []byte) (int, error) {
	for t.failed == nil {
		if t.off == t.end {
			return 0, io.EOF
		}
		if t.cur == nil {
			if t.failed = t.resume(); t.failed != nil {
				break
			}
		}
		if left := t.end - t.off; int64(len(p)) > left {
			p = p[:left]
		}
		n, err := t.readCurrent(p)
		if errors.Is(err, splice.ErrTaken) {
			t.takeOver()
		}
		if n > 0 {
			return t.took(p[:n], err)
		}
		if t.raw != nil {
			return 0, splice.ErrTaken
		}
		if err != nil {
			t.leave(err)
		}
	}
	return 0, t.failed
}

// took accounts for bytes about to reach the reader. The last of them are held
// back when the sum is wrong: a download that is not whole is never mistaken
// for one that is.
func (t *transfer) took(p []byte, err error) (int, error) {
	t.off += int64(len(p))
	if t.sum != nil {
		t.sum.Write(p)
	}
	if t.off == t.end {
		if t.sum != nil && hex.EncodeToString(t.sum.Sum(nil)) != t.digest {
			t.failed = fmt.Errorf("%s: %w", t.req.URL.Path, ErrDigest)
			t.d.log.Error("download has a wrong digest", zap.String("path", t.req.URL.Path), zap.String("endpoint", t.cur.Endpoint().Name))
			t.leave(nil)
			return 0, t.failed
		}
		if err == nil && t.trailers {
			_, _ = t.readCurrent(make([]byte, 1)) // they come after the last byte
		}
		t.cur.Complete(t.total)
		return len(p), io.EOF
	}
	if err != nil && t.raw == nil {
		t.leave(err)
	}
	return len(p), nil
}

// readCurrent reads under the stall watchdog: it runs only while the endpoint
// is waited for, so that a slow reader is never taken for a slow endpoint.
func (t *transfer) readCurrent(p []byte) (int, error) {
	cur, ep := t.cur, t.cur.Endpoint()
	began := time.Now()
	owed := t.total <= route.DocumentMax
	if owed {
		ep.Owe(began)
	}
	t.watchdogOn(cur)
	n, err := cur.ReadCloser.Read(p)
	t.stalls.Store(0)
	t.watchdog.Stop()
	now := time.Now()
	if owed {
		ep.Paid(n, now)
	}
	if t.pace.add(n, began, now) && t.d.crawls(ep, &t.pace) {
		cur.Abort(attempt.ErrCrawling)
		if err == nil {
			err = attempt.ErrCrawling
		}
	}
	if errors.Is(err, context.Canceled) {
		if cause := context.Cause(cur.Context()); cause != nil {
			err = cause
		}
	}
	return n, err
}

// watchdogOn has the answer ended when it brings nothing for the stall time.
func (t *transfer) watchdogOn(cur *attempt.Body) {
	limit := t.d.cfg.Stall.Timeout
	t.stalls.Store(clock.Nano(time.Now().Add(limit)))
	if t.watchdog == nil {
		t.watchdog = time.AfterFunc(limit, func() { t.bark(cur) })
		return
	}
	t.watchdog.Reset(limit)
}

// bark is the watchdog's. One that comes late comes after a pause of the whole
// machine, and what arrived meanwhile is still to be read.
func (t *transfer) bark(cur *attempt.Body) {
	due := t.stalls.Load()
	late := time.Since(clock.At(due))
	if due == 0 || late < 0 {
		return // it was stopped
	}
	if late > t.d.cfg.Pause {
		time.Sleep(t.d.cfg.Pause)
		if t.stalls.Load() != due {
			return
		}
	}
	cur.Abort(attempt.ErrStalled)
}

// leave gives the current endpoint up. An answer that cannot be continued ends
// with it.
func (t *transfer) leave(err error) {
	cur := t.cur
	t.cur = nil
	if t.raw != nil {
		t.raw.Close()
		t.raw = nil
	}
	t.watchdog.Stop()
	t.watchdog = nil // it is bound to the attempt that ended
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the answer was shorter than it said
	}
	if err != nil {
		cur.Finish(err)
	}
	cur.Close()
	if err != nil {
		t.d.log.Info("download interrupted", zap.String("endpoint", cur.Endpoint().Name), zap.String("path", t.req.URL.Path),
			zap.Int64("offset", t.off), zap.Int64("size", t.total), zap.Error(err))
	}
	t.pace = pace{left: cur.Endpoint()}
	if !t.continues && t.failed == nil {
		t.failed = err
	}
}

// resume opens the rest of the content at another endpoint, or at the same one
// when there is no other.
func (t *transfer) resume() error {
	ctx := t.req.Context()
	giveUp := time.Now().Add(t.d.cfg.Retry.MaxElapsed)
	var first *endpoint.Endpoint
	for round := 0; ; round++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var avoid *endpoint.Endpoint
		if round == 0 {
			avoid = t.pace.left
		}
		resp, err := t.d.sender.SendRest(t.rest(), t.fits, first, avoid)
		if err == nil {
			if body, ok := resp.Body.(*attempt.Body); ok {
				t.cur = body
				t.d.resumes.Add(1)
				t.d.log.Info("download continued", zap.String("endpoint", body.Endpoint().Name), zap.String("path", t.req.URL.Path), zap.Int64("offset", t.off))
				return nil
			}
			resp.Body.Close()
			err = errors.New("an empty answer")
		}
		if time.Now().After(giveUp) || round > 0 && errors.Is(err, errNoRanges) {
			return fmt.Errorf("download of %s stopped at byte %d of %d: %w", t.req.URL.Path, t.off, t.total, err)
		}
		wait := t.d.cfg.Retry
		select {
		case <-ctx.Done():
		case <-time.After(attempt.Backoff(wait.WaitMin, wait.WaitMax, round)):
		}
		first = t.d.sender.WaitUsable(ctx, time.Time{})
	}
}

// errNoRanges: an endpoint sends all or nothing, or has other content by now.
var errNoRanges = errors.New("answered the whole where a part was asked for")

// rest is the request for what is missing.
func (t *transfer) rest() *http.Request {
	r := t.req.Clone(t.req.Context())
	r.Body, r.GetBody = nil, nil
	for _, h := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		r.Header.Del(h)
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", t.off, t.end-1))
	if t.etag != "" {
		r.Header.Set("If-Range", t.etag)
	}
	return r
}

// fits says why an answer cannot continue the download.
func (t *transfer) fits(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return errNoRanges
	}
	if resp.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("answered %d where 206 was asked for", resp.StatusCode)
	}
	first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	if first != t.off || last != t.end-1 || total != t.total {
		return fmt.Errorf("answered bytes %d-%d of %d where %d-%d of %d was asked for", first, last, total, t.off, t.end-1, t.total)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != last-first+1 {
		return fmt.Errorf("answered %d bytes for %d", resp.ContentLength, last-first+1)
	}
	if got := resp.Header.Get("Content-Encoding"); got != t.encoding {
		return fmt.Errorf("answered with encoding %q, not %q", got, t.encoding)
	}
	if tag := resp.Header.Get("ETag"); t.etag != "" && tag != t.etag {
		return fmt.Errorf("answered other content: ETag %s, not %s", tag, t.etag)
	}
	return nil
}

// Close ends the download.
func (t *transfer) Close() error {
	if t.failed == nil {
		t.failed = http.ErrBodyReadAfterClose
	}
	if t.watchdog != nil {
		t.watchdog.Stop()
	}
	if t.raw != nil {
		t.raw.Close()
		t.raw = nil
	}
	if t.cur == nil {
		return nil
	}
	return t.cur.Close()
}

// pace measures how fast an endpoint gives, second by second, counting only the
// time spent waiting for it.
type pace struct {
	left *endpoint.Endpoint // the endpoint that was given up last

	since     time.Time // start of the running second
	bytes     int64
	waited    time.Duration
	rate      float64 // of the last second, 0 when the reader was the slow one
	slowSince time.Time
}

// add accounts for one read, and says whether a second is full.
func (p *pace) add(n int, began, now time.Time) bool {
	if p.since.IsZero() {
		p.since = began
	}
	p.bytes += int64(n)
	p.waited += now.Sub(began)
	length := now.Sub(p.since)
	if length < time.Second {
		return false
	}
	p.rate = 0
	if p.waited > length/10 {
		p.rate = float64(p.bytes) / p.waited.Seconds()
	}
	p.since, p.bytes, p.waited = now, 0, 0
	return true
}

// crawls records a second's rate and says whether the transfer has been several
// times slower than the best peer for long enough to be moved.
func (d *Downloads) crawls(ep *endpoint.Endpoint, p *pace) bool {
	now := p.since
	if p.rate == 0 {
		p.slowSince = time.Time{}
		return false
	}
	ep.SetRate(p.rate, now)
	best := 0.0
	for _, peer := range d.sender.Newest().Usable {
		if peer != ep {
			best = max(best, peer.RecentRate(now))
		}
	}
	if best <= p.rate*d.cfg.Stall.CrawlFactor {
		p.slowSince = time.Time{}
		return false
	}
	if p.slowSince.IsZero() {
		p.slowSince = now
	}
	// Chance keeps many transfers from leaving in the same second.
	return now.Sub(p.slowSince) >= d.cfg.Stall.CrawlFor && rand.IntN(2) == 0
}
