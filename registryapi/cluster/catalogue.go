package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// catalogue is a copy of what etcd has, and the only way to change that.
type catalogue struct {
	etcd  *clientv3.Client
	kit   *etcdkit.Client
	cache *etcdkit.Cache[*view, []touched]
	wait  time.Duration // bounds a read's wait for the proof, and half of a write's
	// changed is called after each batch of events, from the watching goroutine.
	changed func([]touched)
	// news are the repositories that changed since news was last taken; guarded
	// by the cache's lock, so that they are there with the revision that brought
	// them.
	news map[string]bool
}

func newCatalogue(etcd *clientv3.Client, wait time.Duration, log *zap.Logger) *catalogue {
	c := &catalogue{etcd: etcd, kit: etcdkit.NewClient(etcd, 2*wait, ""), wait: wait, news: make(map[string]bool), changed: func([]touched) {}}
	c.cache = etcdkit.NewCache(etcdkit.CacheConfig{
		Prefix: Prefix, Anchor: keyID, Wait: wait, LoadWait: 10 * time.Second, Lag: time.Second, MaxLag: time.Second, Prepare: c.found,
	}, c.kit, model{c}, log.Named("catalogue"))
	return c
}

// found makes a catalogue where there is none.
func (c *catalogue) found(ctx context.Context) error {
	t := new(etcdkit.Txn)
	t.Must(keyID, 0)
	t.PutText(keyID, uuid.NewString())
	if _, err := c.kit.Commit(ctx, t); err != nil && !errors.Is(err, etcdkit.ErrConflict) {
		return err
	}
	return nil
}

// model is what the cache of the catalogue holds.
type model struct{ c *catalogue }

func (m model) New() *view { return newView() }

func (m model) Apply(v *view, ev *clientv3.Event, all *[]touched) error {
	t, err := v.apply(ev.Kv, ev.Type == clientv3.EventTypeDelete)
	if t != (touched{}) {
		*all = append(*all, t)
	}
	return err
}

func (m model) Loaded(v *view, all *[]touched) error {
	*all = []touched{{hosts: true}}
	for name := range v.repos {
		*all = append(*all, touched{repo: name})
	}
	return nil
}

func (m model) Replace(v, old *view, etcd uint64, _ bool, all *[]touched) {
	v.etcd = etcd
	for name := range old.repos {
		if v.repos[name] == nil {
			*all = append(*all, touched{repo: name})
		}
	}
}

func (m model) Advance(_ *view, _ int64, all *[]touched) {
	for _, t := range *all {
		if t.repo != "" {
			m.c.news[t.repo] = true
		}
	}
}

func (m model) Changed(all *[]touched) {
	if len(*all) > 0 {
		m.c.changed(*all)
	}
}

// read calls f with the view as it is. f does not block, and changes nothing.
func (c *catalogue) read(f func(v *view)) { c.cache.Read(f) }

// repository returns a copy of a repository as it is in the view; nil if it is
// not there.
func (c *catalogue) repository(name string) (copied *repository) {
	c.read(func(v *view) {
		if r := v.repos[name]; r != nil {
			copied = r.clone()
		}
	})
	return copied
}

// identity names the catalogue: another one, and one restored from a backup,
// have another. "" is not known yet.
func (c *catalogue) identity() (id string) {
	c.read(func(v *view) {
		if v.id != "" {
			id = fmt.Sprintf("%s/%x", v.id, v.etcd)
		}
	})
	return id
}

// unavailable is what a caller hears when etcd does not answer.
func unavailable(err error) error {
	return fmt.Errorf("%w: this host reaches no majority of the cluster's etcd members (%w)", content.ErrUnavailable, err)
}

// fresh returns once the view holds every change that was acknowledged, by any
// host, before the call.
func (c *catalogue) fresh(ctx context.Context) error {
	if err := c.cache.Fresh(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

// provenWithin reports whether the view was proven fresh so recently.
func (c *catalogue) provenWithin(d time.Duration) bool { return c.cache.Proof() < d }

// takeNews calls f with the view and what changed in it since the last call. f
// does not block.
func (c *catalogue) takeNews(f func(v *view, news map[string]bool)) {
	c.cache.Update(func(v *view) {
		f(v, c.news)
		clear(c.news)
	})
}

// change runs a decision until what it wants is written. A decision that fails,
// or finds nothing to do, on what may be an old state is made again on a proven
// one before its word counts. content.ErrUnavailable means that the change may
// have been made all the same.
func (c *catalogue) change(ctx context.Context, repo string, decide decision) error {
	ctx, cancel := context.WithTimeout(ctx, 2*c.wait)
	defer cancel()
	proven, backoff := false, time.Millisecond
	for {
		id := strings.ToLower(rand.Text()[:10])
		more, err := c.changeOnce(ctx, repo, decide, id, &proven, &backoff)
		if err != nil || !more {
			return err
		}
	}
}

func (c *catalogue) changeOnce(ctx context.Context, repo string, decide decision, id string, proven *bool, backoff *time.Duration) (more bool, err error) {
	sent, sentMore := false, false
	for {
		var ch *change
		var rev int64
		done := false
		now := time.Now().UTC()
		c.read(func(v *view) {
			r := v.repos[repo]
			if r == nil {
				r = newView().repo(repo)
			}
			rev, done = r.rev, slices.Contains(r.rec.Done, id)
			ch, err = decide(r, now)
		})
		switch {
		case done && sent:
			return sentMore, nil
		case err != nil || ch == nil:
			if *proven {
				return false, err
			}
			if err := c.fresh(ctx); err != nil {
				return false, err
			}
			*proven = true
			continue
		}
		ch.rec.Done = append(slices.Clone(ch.rec.Done), id)
		if n := len(ch.rec.Done); n > keepDone {
			ch.rec.Done = ch.rec.Done[n-keepDone:]
		}
		sent, sentMore = true, ch.more
		resp, err := etcdkit.Hedged(ctx, c.kit.WritePolicy(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(repoKey(repo)), "=", rev)).
				Then(append([]clientv3.Op{clientv3.OpPut(repoKey(repo), encode(ch.rec))}, ch.ops...)...).Commit()
		})
		if err != nil {
			return false, unavailable(err)
		}
		if err := c.cache.WaitRevision(ctx, resp.Header.Revision); err != nil {
			if resp.Succeeded {
				return ch.more, nil // what follows proves its own freshness
			}
			return false, unavailable(err)
		}
		if resp.Succeeded {
			return ch.more, nil
		}
		*proven = true // what was read at the conflict's revision is as fresh as it gets
		if !done {
			*backoff = etcdkit.SleepBackoff(ctx, *backoff)
		}
		if ctx.Err() != nil {
			return false, unavailable(errors.New("too many writers"))
		}
	}
}

// put writes keys that no decision depends on; ops that fail are tried again by
// who calls.
func (c *catalogue) put(ctx context.Context, ops ...clientv3.Op) error {
	for part := range slices.Chunk(ops, maxOps) {
		if _, err := etcdkit.Hedged(ctx, c.kit.WritePolicy(), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return c.etcd.Txn(ctx).Then(part...).Commit()
		}); err != nil {
			return unavailable(err)
		}
	}
	return nil
}
