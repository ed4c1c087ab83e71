package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/door"
	"github.com/ankacluster/ankacluster/balancer/drill/process"
)

// Speed is what a door that is a process of its own carries when nothing breaks.
type Speed struct {
	Bytes    int64   // of one large download, or 0
	Requests int64   // small ones, or 0
	Took     float64 // seconds
	CPU      float64 // seconds, of the door's process from start to end
}

// MiBPerSecond is the rate of a download.
func (s Speed) MiBPerSecond() float64 { return float64(s.Bytes) / (1 << 20) / s.Took }

// CPUPerGiB is the processor time that one GiB costs.
func (s Speed) CPUPerGiB() float64 { return s.CPU / (float64(s.Bytes) / (1 << 30)) }

// PerSecond is the rate of small requests.
func (s Speed) PerSecond() float64 { return float64(s.Requests) / s.Took }

// A Bench holds the backends and the blob for measuring several doors.
type Bench struct {
	stage *stage
	files blobs
}

// NewBench starts the backends; the blob has the configuration's size and is
// sent as fast as the backends can.
func NewBench(cfg Config) (*Bench, error) {
	b := &Bench{}
	blob, err := b.files.get(cfg.BlobSize, cfg.Seed)
	if err != nil {
		return nil, err
	}
	blob.rate = 0
	b.stage, err = newStage(stageOptions{program: cfg.Program, listen: cfg.Listen, isolate: -1, blob: blob})
	if err != nil {
		b.files.remove()
		return nil, err
	}
	return b, nil
}

// Close ends the backends and removes the blob.
func (b *Bench) Close() {
	b.stage.close()
	b.files.remove()
}

// through opens the door, runs work, and adds what the door's process used.
func (b *Bench) through(ctx context.Context, through door.Usage, work func(client *http.Client, base string) (Speed, error)) (Speed, error) {
	client, base, err := through.Open(ctx, b.stage.urls())
	closeDoor := sync.OnceFunc(through.Close)
	defer closeDoor()
	if err != nil {
		return Speed{}, err
	}
	l := &lane{client: client, base: base, prefix: "bench"}
	if err := l.awaitAnswer(ctx, len(b.stage.backends), process.StartTimeout); err != nil {
		return Speed{}, err
	}
	s, err := work(client, base)
	if err != nil {
		return s, err
	}
	closeDoor()
	cpu, _ := through.Usage()
	s.CPU = cpu.Seconds()
	return s, nil
}

// Download reads the blob once.
func (b *Bench) Download(ctx context.Context, through door.Usage) (Speed, error) {
	return b.through(ctx, through, func(client *http.Client, base string) (Speed, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+pathBlob+b.stage.blob.digest, nil)
		if err != nil {
			return Speed{}, err
		}
		begun := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return Speed{}, err
		}
		defer resp.Body.Close()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
		if err == nil && (resp.StatusCode != http.StatusOK || n != b.stage.blob.size) {
			err = fmt.Errorf("%s and %d of %d bytes", resp.Status, n, b.stage.blob.size)
		}
		return Speed{Bytes: n, Took: time.Since(begun).Seconds()}, err
	})
}

// Requests sends small GETs over so many connections, each as soon as the one
// before it has been answered.
func (b *Bench) Requests(ctx context.Context, through door.Usage, connections int, lasts time.Duration) (Speed, error) {
	return b.through(ctx, through, func(client *http.Client, base string) (Speed, error) {
		var done, failed atomic.Int64
		var sending sync.WaitGroup
		begun := time.Now()
		for i := range connections {
			l := &lane{client: client, base: base}
			s := &sample{id: fmt.Sprintf("bench-%d", i), kind: get}
			sending.Go(func() {
				for time.Since(begun) < lasts && ctx.Err() == nil {
					if _, err := l.exchange(ctx, s); err != nil {
						failed.Add(1)
					}
					done.Add(1)
				}
			})
		}
		sending.Wait()
		s := Speed{Requests: done.Load(), Took: time.Since(begun).Seconds()}
		if n := failed.Load(); n > 0 {
			return s, fmt.Errorf("%d of %d requests failed", n, s.Requests)
		}
		return s, errors.Join(ctx.Err())
	})
}
