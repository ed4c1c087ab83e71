package drill

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/door"
	"github.com/ankacluster/ankacluster/balancer/drill/stall"
)

// downloadPromise is what must hold for one large download.
type downloadPromise struct {
	gap   time.Duration // the longest time without a byte
	twice float64       // the part that may be fetched more than once
}

// memoryPromise is how much memory the process that streams may use.
const memoryPromise = 50 << 20

// Transfer is what became of one large download.
type Transfer struct {
	Size      int64   `json:"size_bytes"`
	Received  int64   `json:"received_bytes"`
	Identical bool    `json:"identical"`
	Gap       Span    `json:"longest_gap_seconds"`
	Took      Span    `json:"took_seconds"`
	Breaks    int     `json:"breaks"`
	Twice     float64 `json:"part_fetched_twice"`
	Memory    int64   `json:"memory_bytes"` // of the process that streams; 0: unknown
	CPU       Span    `json:"cpu_seconds"`  // of the same
	Failure   string  `json:"failure,omitempty"`
}

// fetch is a download that is under way.
type fetch struct {
	received atomic.Int64
	finished chan struct{}

	// Written by run, read after finished is closed.
	gaps    stall.List // without a byte, those that were noticed
	took    time.Duration
	series  []int64 // bytes a PlotStep
	digest  string
	failure error
}

// stallLimit ends a download that has stopped for good.
const stallLimit = 30 * time.Second

func (f *fetch) run(ctx context.Context, client *http.Client, url string) {
	defer close(f.finished)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("no byte for %v", stallLimit)) })
	defer watchdog.Stop()
	begun := time.Now()
	sum := sha256.New()
	f.failure = func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		buf := make([]byte, 64<<10)
		for last := time.Now(); ; {
			n, err := resp.Body.Read(buf)
			now := time.Now()
			if now.Sub(last) >= stall.Noticed {
				f.gaps = append(f.gaps, stall.Stall{From: last, To: now})
			}
			last = now
			watchdog.Reset(stallLimit)
			sum.Write(buf[:n])
			f.note(now.Sub(begun), n)
			f.received.Add(int64(n))
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return errors.Join(err, context.Cause(ctx))
			}
		}
	}()
	f.took = time.Since(begun)
	f.digest = fmt.Sprintf("sha256:%x", sum.Sum(nil))
}

// note adds n bytes to those of their time.
func (f *fetch) note(at time.Duration, n int) {
	for int(at/PlotStep) >= len(f.series) {
		f.series = append(f.series, 0)
	}
	f.series[at/PlotStep] += int64(n)
}

// performDownload downloads the blob once while the script plays.
func (c Config) performDownload(ctx context.Context, s scenario, blob *blobFile) (*Row, error) {
	stage, err := newStage(stageOptions{program: c.Program, listen: c.Listen, isolate: -1, blob: blob})
	if err != nil {
		return nil, err
	}
	defer stage.close()
	if c.Ready != nil {
		c.Ready(stage.urls())
	}
	through := c.OpenDownload()
	client, base, err := through.Open(ctx, stage.urls())
	closeDoor := sync.OnceFunc(through.Close)
	defer closeDoor()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", through.Name(), err)
	}
	waiting := &lane{client: client, base: base, prefix: s.name}
	if err := waiting.awaitAnswer(ctx, 1, c.Patience); err != nil {
		return nil, fmt.Errorf("%s: %w", through.Name(), err)
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{finished: make(chan struct{})}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	watch := stall.Start()
	defer watch.Stop()
	begun := time.Now()
	running.Go(func() { f.run(ctx, client, base+pathBlob+blob.digest) })
	showing := c.show(s.name, showDownload(f, blob.size))
	defer showing()

	a := &act{ctx: ctx, stage: stage, fetch: f, lasts: c.Duration}
	if err := s.play(a); err != nil {
		return nil, err
	}
	select {
	case <-f.finished:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stood := watch.Stop()
	gap := stall.Noticed
	for _, g := range f.gaps {
		gap = max(gap, stood.Ran(g.From, g.To))
	}
	t := &Transfer{Size: blob.size, Received: f.received.Load(), Identical: f.digest == blob.digest,
		Gap: lasting(gap), Took: lasting(f.took)}
	if f.failure != nil {
		t.Failure = class(f.failure.Error())
	}
	for _, e := range a.happened() {
		if e.broke {
			t.Breaks++
		}
	}
	sent, err := sentBytes(stage.counters(), "")
	if err != nil {
		return nil, err
	}
	t.Twice = max(0, float64(sent-t.Received)/float64(t.Size))
	closeDoor()
	if d, ok := through.(door.Usage); ok {
		cpu, memory := d.Usage()
		t.CPU, t.Memory = lasting(cpu), memory
	}
	row := &Row{Scenario: s.name, Door: through.Name(), Transfer: t, Driver: lasting(stood.Longest())}
	row.Plot = &Plot{Length: f.took, Received: f.series, Faults: faults(a.happened(), begun, begun.Add(f.took))}
	row.Checks = judgeDownload(*s.download, t)
	row.Broken, _ = verdicts(row.Checks)
	return row, nil
}

func judgeDownload(p downloadPromise, t *Transfer) []Check {
	var cs checks
	whole := t.Received == t.Size && t.Failure == ""
	arrived := fmt.Sprintf("%d of %d bytes", t.Received, t.Size)
	cs.add("all bytes arrive", arrived, whole, "%s arrived (all promised; %s)", arrived, t.Failure)
	if whole {
		cs.add("they are the registry's", map[bool]string{true: "identical", false: "they differ"}[t.Identical], t.Identical, "the bytes differ")
	}
	cs.add("the registry breaks meanwhile", fmt.Sprintf("%d times", t.Breaks), t.Breaks > 0, "the download ended before anything could break")
	cs.add(fmt.Sprintf("at most %v without a byte", p.gap), t.Gap.String(), t.Gap.d <= p.gap, "no byte for %v (at most %v promised)", t.Gap, p.gap)
	if p.twice > 0 {
		cs.add(fmt.Sprintf("at most %.0f%% is fetched twice", 100*p.twice), fmt.Sprintf("%.2f%%", 100*t.Twice),
			t.Twice <= p.twice, "%.2f%% fetched twice (at most %.0f%% promised)", 100*t.Twice, 100*p.twice)
	}
	cs.add(fmt.Sprintf("at most %d MB of memory", memoryPromise>>20), fmt.Sprintf("%d MB", t.Memory>>20),
		t.Memory <= memoryPromise, "%d MB of memory (at most %d promised)", t.Memory>>20, memoryPromise>>20)
	return cs
}

// midway breaks the backend that is sending, in the middle of the download.
func midway(f fault) script {
	return func(a *act) error {
		for a.fetch.received.Load() < a.stage.blob.size*2/5 {
			if done, err := a.waitFetch(5 * time.Millisecond); done || err != nil {
				return err
			}
		}
		b, err := a.sending()
		if b == nil || err != nil {
			return err
		}
		if err := a.inject(f, b); err != nil {
			return err
		}
		if _, err := a.waitFetch(time.Minute); err != nil {
			return err
		}
		return a.heal(f, b)
	}
}

// againAndAgain kills whichever backend is sending, every two seconds.
func againAndAgain(a *act) error {
	for {
		if done, err := a.waitFetch(2 * time.Second); done || err != nil {
			return err
		}
		b, err := a.sending()
		if b == nil || err != nil {
			return err
		}
		if err := a.inject(killed, b); err != nil {
			return err
		}
		if err := a.wait(500 * time.Millisecond); err != nil {
			return err
		}
		if err := a.heal(killed, b); err != nil {
			return err
		}
	}
}

// waitFetch waits for d, or less when the download ends.
func (a *act) waitFetch(d time.Duration) (done bool, err error) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-a.fetch.finished:
		return true, nil
	case <-a.ctx.Done():
		return false, a.ctx.Err()
	case <-t.C:
		return false, nil
	}
}

// sending returns the backend that sends the download now; nil when it is over.
func (a *act) sending() (*backendProcess, error) {
	for {
		before := make(map[*backendProcess]int64)
		for _, b := range a.stage.backends {
			n, err := sentBytes(a.stage.counters(), b.name)
			if err != nil {
				return nil, err
			}
			before[b] = n
		}
		done, err := a.waitFetch(20 * time.Millisecond)
		if done || err != nil {
			return nil, err
		}
		for b, was := range before {
			now, err := sentBytes(a.stage.counters(), b.name)
			if err != nil {
				return nil, err
			}
			if now > was {
				return b, nil
			}
		}
	}
}

// blobs makes the file that all download scenarios share, when the first needs it.
type blobs struct {
	dir  string
	blob *blobFile
}

// pace of a download: a gigabit network.
const pace = 128 << 20

func (bs *blobs) get(size int64, seed uint64) (*blobFile, error) {
	if bs.blob != nil {
		return bs.blob, nil
	}
	dir, err := os.MkdirTemp("", "drill-blob-")
	if err != nil {
		return nil, err
	}
	bs.dir = dir
	path := filepath.Join(dir, "blob")
	digest, err := writeBlob(path, size, seed)
	if err != nil {
		return nil, err
	}
	bs.blob = &blobFile{path: path, digest: digest, size: size, rate: pace}
	return bs.blob, nil
}

func (bs *blobs) remove() {
	if bs.dir != "" {
		_ = os.RemoveAll(bs.dir)
	}
}
