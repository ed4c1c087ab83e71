package replication

import (
	"maps"
	"sync"
	"time"
)

// queue holds the repositories that differ, or may differ, from their sources.
type queue struct {
	wake chan struct{} // capacity 1: something changed

	mu    sync.Mutex
	items map[string]*item
}

// item is one such repository. It leaves the queue when it is equal.
type item struct {
	repo  string
	dirty map[*source]bool // whose state is to be read again
	again bool             // compare again, with what is known
	since time.Time        // the oldest change that is not here, by our clock
	// busy: somebody compares it now. copying: its content is on the way.
	busy, copying bool
	failures      int
	notBefore     time.Time
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), items: make(map[string]*item)}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // the one signal there is will do
	}
}

// mark says that repo changed at the sources, at the time since.
func (q *queue) mark(repo string, since time.Time, sources ...*source) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[repo]
	if it == nil {
		it = &item{repo: repo, dirty: make(map[*source]bool), since: since}
		q.items[repo] = it
	}
	if since.Before(it.since) {
		it.since = since
	}
	for _, s := range sources {
		it.dirty[s] = true
	}
	it.again = true
	it.notBefore = time.Time{} // news are a reason to try at once
	q.signal()
}

// failed ends what take began; it is to be tried again, though not at once.
func (q *queue) failed(repo string, sources []*source) {
	q.mu.Lock()
	q.items[repo].busy = false
	q.mu.Unlock()
	q.later(repo, sources)
}

// later is mark after a failure.
func (q *queue) later(repo string, sources []*source) {
	q.mark(repo, time.Now(), sources...)
	q.mu.Lock()
	defer q.mu.Unlock()
	if it := q.items[repo]; it != nil {
		it.notBefore = time.Now().Add(retryPace.Next(it.failures))
		it.failures++
	}
}

// take returns a repository to compare and the sources to read, or how long
// there will be none unless something changes.
func (q *queue) take(now time.Time) (repo string, sources []*source, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait = time.Hour
	var first *item
	for _, it := range q.items {
		if it.busy || !it.again {
			continue
		}
		if d := it.notBefore.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if first == nil || it.since.Before(first.since) {
			first = it
		}
	}
	if first == nil {
		return "", nil, wait
	}
	for s := range maps.Keys(first.dirty) {
		sources = append(sources, s)
	}
	clear(first.dirty)
	first.busy, first.again = true, false
	return first.repo, sources, 0
}

// compared ends what take began. copying says whether content is still missing.
func (q *queue) compared(repo string, copying bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[repo]
	it.busy, it.copying = false, copying
	if !copying {
		it.failures = 0
		if !it.again {
			delete(q.items, repo)
		}
	}
	q.signal()
}

// waiting returns how many repositories differ, and since when.
func (q *queue) waiting() (n int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if oldest.IsZero() || it.since.Before(oldest) {
			oldest = it.since
		}
	}
	return len(q.items), oldest
}
