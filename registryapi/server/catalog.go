package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// catalog is the index behind the template lists. It is only a memory of what
// the store says: each list first asks the store's journal what changed, on any
// server, and reads those repositories again. A scan now and then finds what
// changed without a server, and the times of pulls by others. Lost, it is
// rebuilt from the store.
type catalog struct {
	store       content.Store
	log         *zap.Logger
	concurrency int
	// turn is held by the one that refreshes; its capacity is one.
	turn    chan struct{}
	cursor  content.Cursor    // guarded by turn
	entries map[string]*entry // by repository; guarded by turn
	dirty   bool              // entries differ from the snapshot; guarded by turn
	view    atomic.Pointer[[]registryapi.Template]
	skipped atomic.Int64 // templates and tags left out as damaged or unfinished

	pullsMu sync.Mutex
	pulls   map[pulledTag]time.Time // noted since the last refresh; guarded by pullsMu
}

type pulledTag struct{ repo, tag string }

// entry is what the index has of one repository.
type entry struct {
	Template registryapi.Template `json:"template"`
	Shown    bool                 `json:"shown"`
	Other    bool                 `json:"other,omitempty"` // has tags that are known to be no VM
	Created  time.Time            `json:"created"`
	Tags     time.Time            `json:"tags"` // mtime of the tags' directory when it was read
	// Skipped says why tags are left out; such an entry is read at each scan.
	Skipped []string `json:"skipped,omitempty"`
}

func newCatalog(store content.Store, log *zap.Logger, concurrency int) *catalog {
	c := &catalog{store: store, log: log, concurrency: concurrency, turn: make(chan struct{}, 1), entries: make(map[string]*entry),
		pulls: make(map[pulledTag]time.Time)}
	c.load()
	return c
}

func (c *catalog) lock(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *catalog) unlock() { <-c.turn }

// templates returns all templates with their versions, by name. The result is
// shared: callers do not change it.
func (c *catalog) templates(ctx context.Context) ([]registryapi.Template, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	if err := c.follow(ctx); err != nil {
		return nil, err
	}
	return *c.view.Load(), nil
}

// follow reads the repositories again that the journal names, and takes in the
// pulls that were noted. Its place in the journal moves when it is done: what a
// caller who left did not wait for is read for the next.
func (c *catalog) follow(ctx context.Context) error {
	again := make(map[string]bool)
	// A store that was filled by other means has no journal.
	all := c.view.Load() == nil && len(c.entries) == 0
	cursor := c.cursor
	for {
		changes, next, reset, err := c.store.Changes(cursor, maxChanges)
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		all = all || reset
		for _, ch := range changes {
			again[ch.Repository] = true
		}
		cursor = next
		if reset || len(changes) == 0 {
			break
		}
	}
	read := c.readAll
	if !all {
		read = func(ctx context.Context) error { return c.read(ctx, again) }
	}
	if err := read(ctx); err != nil {
		return err
	}
	c.cursor = cursor
	c.takePulls()
	return nil
}

func (c *catalog) readAll(ctx context.Context) error {
	repos, err := c.store.Repositories()
	if err != nil {
		return err
	}
	again := make(map[string]bool, len(repos))
	for _, r := range repos {
		again[r] = true
	}
	for r := range c.entries {
		again[r] = true
	}
	return c.read(ctx, again)
}

// scan compares the directories with the index and reads what differs.
func (c *catalog) scan(ctx context.Context) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if err := c.follow(ctx); err != nil {
		return err
	}
	repos, err := c.store.Repositories()
	if err != nil {
		return err
	}
	again := make(map[string]bool)
	for r := range c.entries {
		again[r] = true
	}
	for _, r := range repos {
		e := c.entries[r]
		again[r] = e == nil || len(e.Skipped) > 0 || !e.Tags.Equal(c.store.TagsChanged(r))
	}
	if err := c.read(ctx, again); err != nil {
		return err
	}
	c.refreshPulls()
	c.save()
	return nil
}

// read reads the repositories marked true and publishes the new list.
func (c *catalog) read(ctx context.Context, again map[string]bool) error {
	read := make(map[string]*entry)
	results := make(chan func(), len(again)) // every result fits: readers never wait
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.concurrency)
	for repo, wanted := range again {
		if !wanted {
			continue
		}
		g.Go(func() error {
			e := readEntry(c.store, repo)
			results <- func() { read[repo] = e }
			return ctx.Err()
		})
	}
	err := g.Wait()
	close(results)
	for put := range results {
		put()
	}
	if err != nil {
		return err
	}
	for repo, e := range read {
		c.put(repo, e)
	}
	if len(read) > 0 || c.view.Load() == nil {
		c.publish()
	}
	return nil
}

func (c *catalog) put(repo string, e *entry) {
	var before []string
	if old := c.entries[repo]; old != nil {
		before = old.Skipped
	}
	if len(e.Skipped) > 0 && !slices.Equal(before, e.Skipped) {
		c.log.Warn("template or tag left out of lists", zap.String("repository", repo), zap.Strings("reasons", e.Skipped))
	}
	c.dirty = true
	if !e.Shown && !e.Other && len(e.Skipped) == 0 {
		delete(c.entries, repo)
		return
	}
	c.entries[repo] = e
}

// publish makes the list of the entries. Of two templates with one id the older
// keeps it; the other is known by its repository's.
func (c *catalog) publish() {
	repos := make([]string, 0, len(c.entries))
	for r := range c.entries {
		repos = append(repos, r)
	}
	slices.SortFunc(repos, func(a, b string) int {
		return cmp.Or(c.entries[a].Created.Compare(c.entries[b].Created), cmp.Compare(a, b))
	})
	taken := make(map[string]bool)
	skipped := 0
	list := make([]registryapi.Template, 0, len(repos))
	for _, r := range repos {
		e := c.entries[r]
		skipped += len(e.Skipped)
		if !e.Shown {
			continue
		}
		t := e.Template
		if taken[t.ID] {
			t.ID = content.RepositoryID(r)
		}
		taken[t.ID] = true
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b registryapi.Template) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Repository, b.Repository))
	})
	c.skipped.Store(int64(skipped))
	c.view.Store(&list)
}

// refreshPulls reads the times of pulls that other servers noted.
func (c *catalog) refreshPulls() {
	changed := false
	for repo, e := range c.entries {
		t := e.Template
		t.Versions = slices.Clone(t.Versions) // the published list has the old ones
		different := false
		for i := range t.Versions {
			pulled := unix(c.store.LastPull(repo, t.Versions[i].Tag))
			different = different || pulled != t.Versions[i].LastPull
			t.Versions[i].LastPull = pulled
			t.LastPull = max(t.LastPull, pulled)
		}
		if different {
			next := *e
			next.Template = t
			c.entries[repo], changed = &next, true
		}
	}
	if changed {
		c.dirty = true
		c.publish()
	}
}

// pulled notes a pull made through this server, for the next list. It does not
// wait for its turn: the one who pulls gets his answer after it.
func (c *catalog) pulled(repo, tag string, now time.Time) {
	c.pullsMu.Lock()
	defer c.pullsMu.Unlock()
	c.pulls[pulledTag{repo, tag}] = now
}

// takePulls puts the pulls that were noted into the entries.
func (c *catalog) takePulls() {
	c.pullsMu.Lock()
	pulls := c.pulls
	c.pulls = make(map[pulledTag]time.Time)
	c.pullsMu.Unlock()
	if len(pulls) == 0 {
		return
	}
	for p, at := range pulls {
		e := c.entries[p.repo]
		if e == nil {
			continue
		}
		next := *e
		next.Template.Versions = slices.Clone(e.Template.Versions) // the published list has the old ones
		for i := range next.Template.Versions {
			if next.Template.Versions[i].Tag == p.tag {
				next.Template.Versions[i].LastPull = at.Unix()
				next.Template.LastPull = at.Unix()
			}
		}
		c.entries[p.repo], c.dirty = &next, true
	}
	c.publish()
}

// snapshot is the index file: entries as of a place in the journal.
type snapshot struct {
	Format  int               `json:"format"`
	Cursor  string            `json:"cursor"`
	Entries map[string]*entry `json:"entries"`
}

// snapshotFormat changes when entries are read differently.
const snapshotFormat = 2

// snapshotName is that of the snapshot among the store's documents.
const snapshotName = "index.json"

// load starts from the last snapshot, if it is good for anything.
func (c *catalog) load() {
	data, err := c.store.Documents().Read(snapshotName)
	if err != nil {
		return
	}
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil || s.Format != snapshotFormat || s.Entries == nil {
		c.log.Warn("the index file is damaged or of another version and is rebuilt", zap.String("file", snapshotName))
		return
	}
	for repo, e := range s.Entries {
		if e == nil || strings.TrimSpace(repo) == "" {
			return
		}
	}
	c.entries, c.cursor = s.Entries, content.Cursor(s.Cursor)
	c.publish()
}

// save writes the snapshot. It is only a shortcut: errors are no harm.
func (c *catalog) save() {
	if !c.dirty {
		return
	}
	data, err := json.Marshal(snapshot{snapshotFormat, string(c.cursor), c.entries})
	if err == nil {
		err = c.store.Documents().Write(snapshotName, data)
	}
	if err != nil {
		c.log.Debug("index not saved", zap.Error(err))
		return
	}
	c.dirty = false
}

// close saves the index for the next start.
func (c *catalog) close() {
	c.turn <- struct{}{}
	defer c.unlock()
	c.save()
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
