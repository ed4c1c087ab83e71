package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/door"
	"github.com/ankacluster/ankacluster/balancer/drill/process"
	"github.com/ankacluster/ankacluster/balancer/drill/stall"
)

// Config says what to drill and how.
type Config struct {
	Scenarios []string      // names; empty is all of them
	Rate      int           // requests a second of each client
	Duration  time.Duration // how long a fault lasts
	Heal      time.Duration // how long the load goes on after healing
	Seed      uint64        // chooses the victims and the order of requests
	Posts     string        // "keyed", "unkeyed" or "both"
	Listen    []string      // addresses of the backends
	BlobSize  int64         // bytes of the large download

	// Open returns a new door for each client.
	Open func() door.Door
	// OpenDownload returns the door for a large download.
	OpenDownload func() door.Door
	// Program is the command and arguments that make a fake of this binary.
	Program []string
	// Ready is called once with the backends' URLs when they first listen; nil is
	// nobody.
	Ready func(backends []string)
	// Patience is how long a door may take until it sends to every backend.
	Patience time.Duration
	// Fixed says that the door knows the backends' addresses beforehand, so that
	// no scenario may move one.
	Fixed bool
	// Live receives the line that moves while a scenario runs; nil is none.
	Live io.Writer
}

// DefaultConfig is the drill that the promises are made for, except for Open
// and Program.
func DefaultConfig() Config {
	free := "127.0.0.1:0"
	return Config{
		Rate:     500,
		Duration: 12 * time.Second, // about 2000 requests meet the broken third
		Heal:     8 * time.Second,  // a quarter of the ramp, and the first second many times over
		Seed:     1,
		Posts:    "both",
		Listen:   []string{free, free, free},
		BlobSize: 1 << 30,
		Patience: process.StartTimeout,
	}
}

// Validate reports everything that is wrong, by the names of the flags.
func (c Config) Validate() error {
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range c.Scenarios {
		if !slices.Contains(Names(), name) {
			say("--scenario %q is not one of %s", name, strings.Join(Names(), ", "))
		}
	}
	if c.Rate < 1 || c.Rate > 20000 {
		say("--rate %d must be from 1 to 20000 requests a second", c.Rate)
	}
	if c.Duration < time.Second || c.Duration > time.Hour {
		say("--duration %v must be from 1s to 1h", c.Duration)
	}
	if c.Heal < 3*time.Second || c.Heal > time.Hour {
		say("--heal %v must be from 3s to 1h", c.Heal)
	}
	if !slices.Contains([]string{"keyed", "unkeyed", "both"}, c.Posts) {
		say("--posts %q must be keyed, unkeyed or both", c.Posts)
	}
	if len(c.Listen) != 3 {
		say("--backends must be three addresses, not %d", len(c.Listen))
	}
	for _, addr := range c.Listen {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			say("--backends %q must be an address and a port, such as 127.0.0.1:18101", addr)
		}
	}
	return errors.Join(errs...)
}

// Names lists the scenarios in the order in which they run.
func Names() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// About says what a scenario does.
func About(name string) string {
	for _, s := range scenarios() {
		if s.name == name {
			return s.about
		}
	}
	return ""
}

// Run plays the chosen scenarios one after the other and hands each one's row
// to report as it ends. An error means that a drill could not be held; a broken
// promise is in its row.
func Run(ctx context.Context, cfg Config, report func(*Row)) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg, err := cfg.settled()
	if err != nil {
		return err
	}
	var files blobs
	defer files.remove()
	for _, s := range scenarios() {
		if len(cfg.Scenarios) > 0 && !slices.Contains(cfg.Scenarios, s.name) {
			continue
		}
		perform := cfg.perform
		if s.download != nil {
			blob, err := files.get(cfg.BlobSize, cfg.Seed)
			if err != nil {
				return err
			}
			perform = func(ctx context.Context, s scenario) (*Row, error) { return cfg.performDownload(ctx, s, blob) }
		}
		row, err := perform(ctx, s)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		if row.Broken == nil {
			row.Broken = []string{} // [] for those who read JSON
		}
		report(row)
	}
	return nil
}

// settled fixes the addresses for all scenarios, and has Ready called once.
func (c Config) settled() (Config, error) {
	c.Listen = slices.Clone(c.Listen)
	for i, addr := range c.Listen {
		if strings.HasSuffix(addr, ":0") {
			free, err := door.FreeAddress()
			if err != nil {
				return c, err
			}
			c.Listen[i] = free
		}
	}
	if tell := c.Ready; tell != nil {
		var once sync.Once
		c.Ready = func(backends []string) { once.Do(func() { tell(backends) }) }
	}
	return c, nil
}

func (c Config) perform(ctx context.Context, s scenario) (*Row, error) {
	if s.isolate {
		why := cannotIsolate()
		if c.Fixed {
			why = "dropping packets needs an address of the drill's own"
		}
		if why != "" {
			return &Row{Scenario: s.name, Door: c.Open().Name(), Skipped: why}, nil
		}
	}
	victims := rand.New(rand.NewPCG(c.Seed, 0)).Perm(len(c.Listen))[:s.victims]
	opts := stageOptions{program: c.Program, listen: c.Listen, isolate: -1}
	if s.isolate {
		opts.isolate = victims[0]
	}
	stage, err := newStage(opts)
	if errors.Is(err, errIsolate) {
		return &Row{Scenario: s.name, Door: c.Open().Name(), Skipped: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	defer stage.close()
	if c.Ready != nil {
		c.Ready(stage.urls())
	}
	a := &act{ctx: ctx, stage: stage, lasts: c.Duration}
	for _, v := range victims {
		a.victims = append(a.victims, stage.backends[v])
	}
	lanes, err := c.openLanes(ctx, stage, s.name)
	defer closeLanes(lanes)
	if err != nil {
		return nil, err
	}
	watch := stall.Start()
	defer watch.Stop()
	begun := time.Now()
	end, err := c.load(ctx, a, lanes, s)
	stood := watch.Stop()
	if err != nil {
		return nil, err
	}
	l, err := stage.ledger.ledger(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	events := a.happened()
	row := measure(lanes, events, l, len(stage.backends), end, stood)
	row.Scenario, row.Door = s.name, lanes[0].door.Name()
	row.Plot = plotOf(lanes, events, begun, end)
	for _, l := range lanes {
		if d, ok := l.door.(door.Telling); ok {
			row.Attempts = max(row.Attempts, peakAttempts(d.Dials(), stage.addrs(), events))
			for _, m := range moves(d, stage.addrs(), begun) {
				row.Plot.Moves = append(row.Plot.Moves, m)
				if at := begun.Add(m.At); m.Out && !stood.Harm(at.Add(-time.Second), at) {
					row.Out++
				}
			}
		}
	}
	if len(events) > 0 && !s.promise.alone {
		healed := events[len(events)-1].at
		row.ShareDue = rampShare(end.Sub(healed) - time.Second - shareWindow/2)
	}
	row.Checks = judge(s.promise, row)
	row.Broken, row.Unjudged = verdicts(row.Checks)
	return row, nil
}

// warm is how long the load runs before anything breaks.
const warm = 2 * time.Second

// load plays the script while the lanes send, and returns when the sending
// stopped, once every request has ended.
func (c Config) load(ctx context.Context, a *act, lanes []*lane, s scenario) (end time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var sending sync.WaitGroup
	for _, l := range lanes {
		sending.Go(func() { l.run(ctx, time.Second/time.Duration(c.Rate), c.Seed, stop) })
	}
	showing := c.show(s.name, showLoad(lanes))
	defer showing()
	defer sending.Wait()
	defer func() {
		end = time.Now()
		close(stop)
		if err != nil {
			cancel()
		}
	}()
	if err := a.wait(warm); err != nil {
		return end, err
	}
	if err := s.play(a); err != nil {
		return end, err
	}
	if len(a.happened()) == 0 {
		return end, nil
	}
	return end, a.wait(c.Heal)
}

func (c Config) openLanes(ctx context.Context, s *stage, name string) ([]*lane, error) {
	var lanes []*lane
	for _, posts := range []kind{keyed, unkeyed} {
		if c.Posts != "both" && c.Posts != [...]string{keyed: "keyed", unkeyed: "unkeyed"}[posts] {
			continue
		}
		l := &lane{posts: posts, door: c.Open(), prefix: fmt.Sprintf("%s-%d", name, posts), live: &live{}, calm: name == "none"}
		lanes = append(lanes, l)
		var err error
		if l.client, l.base, err = l.door.Open(ctx, s.urls()); err != nil {
			return lanes, fmt.Errorf("open %s: %w", l.door.Name(), err)
		}
		if err := l.awaitAnswer(ctx, len(s.backends), c.Patience); err != nil {
			return lanes, fmt.Errorf("%s: %w", l.door.Name(), err)
		}
	}
	return lanes, nil
}

func closeLanes(lanes []*lane) {
	for _, l := range lanes {
		l.door.Close()
	}
}

// awaitAnswer sends GETs until every backend has answered one, so that what is
// measured later is not the way a door starts.
func (l *lane) awaitAnswer(ctx context.Context, backends int, patience time.Duration) error {
	answered := make(map[string]bool)
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		backend, err := l.exchange(try, &sample{id: l.prefix + "-first", kind: get})
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			last = err
			wait(ctx, 100*time.Millisecond)
			continue
		}
		if answered[backend] = true; len(answered) == backends {
			return nil
		}
		wait(ctx, 5*time.Millisecond)
	}
	return fmt.Errorf("only %d of %d backends answered within %v (last error: %v)", len(answered), backends, patience, last)
}
