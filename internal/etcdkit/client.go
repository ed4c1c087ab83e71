package etcdkit

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

// Client makes the calls to etcd that its users have in common. It is safe for
// concurrent use.
type Client struct {
	Etcd *clientv3.Client

	total         time.Duration
	reads, writes Pace

	// answers is where the answers of requests with an idempotency key are kept.
	answers string
	idemMu  sync.Mutex // held across a grant: the others need its result
	idem    clientv3.LeaseID
	since   time.Time // of idem
}

// NewClient returns a Client that spends up to total on a call to an etcd that
// does not answer, with all repeats. answers is the prefix of the keys under which
// answers are kept.
func NewClient(etcd *clientv3.Client, total time.Duration, answers string) *Client {
	return &Client{Etcd: etcd, total: total, answers: answers}
}

// WritePolicy is that of the client's writes.
func (c *Client) WritePolicy() Policy {
	p := WritePolicy(c.total)
	p.Pace = &c.writes
	return p
}

// Get returns one key as it is now, nil if it is not there.
func (c *Client) Get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	resp, err := c.get(ctx, c.total, key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

func (c *Client) get(ctx context.Context, total time.Duration, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	p := ReadPolicy(total)
	p.Pace = &c.reads
	return Hedged(ctx, p, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.Etcd.Get(ctx, key, opts...)
	})
}

// pageSize is how many keys are read at a time; a page of full-grown records stays
// well below the size of a message that etcd refuses.
const pageSize = 500

// Pages calls page with all keys below prefix, a page at a time.
func (c *Client) Pages(ctx context.Context, prefix string, page func(*clientv3.GetResponse) error, opts ...clientv3.OpOption) error {
	opts = append([]clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(pageSize)}, opts...)
	for next := prefix; ; {
		resp, err := c.get(ctx, c.total, next, opts...)
		if err != nil {
			return err
		}
		if err := page(resp); err != nil || !resp.More {
			return err
		}
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// snapshot is Pages with all keys as they are at one revision, which it returns.
func (c *Client) snapshot(ctx context.Context, total time.Duration, prefix string, page func(*clientv3.GetResponse)) (rev int64, err error) {
	opts := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(pageSize)}
	for next := prefix; ; {
		resp, err := c.get(ctx, total, next, opts...)
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
			opts = append(opts, clientv3.WithRev(rev))
		}
		page(resp)
		if !resp.More {
			return rev, nil
		}
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}
