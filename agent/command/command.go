package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// Grace is how long a group has between SIGTERM and SIGKILL: enough for anka
	// to remove its temporary files, little enough for a terminate to be prompt.
	Grace = 3 * time.Second
	// outputWait is how long Run waits for the output streams to close after the
	// program itself has ended. Daemons that inherit them never close them.
	outputWait = time.Second
	// DefaultMaxOutput is kept of each stream when a Command does not say.
	DefaultMaxOutput = 1 << 20
	// busyTries and busyPause: how often, and after how long, a program that is
	// being replaced is tried again.
	busyTries = 50
	busyPause = 20 * time.Millisecond
	// stallCheck is how often progress is looked at.
	stallCheck = time.Second
)

// Why Run ended a command before it ended by itself.
var (
	ErrTimeout = errors.New("timed out")
	ErrStalled = errors.New("made no progress")
)

// Command is one call of a program.
type Command struct {
	Path  string
	Args  Args
	Env   []string // added to the agent's own; never logged
	Stdin io.Reader
	As    *User // nil: the agent's own user
	// Timeout bounds the whole run; 0 means none.
	Timeout time.Duration
	// Stall ends a command that for so long printed nothing, used no CPU and
	// moved no Progress; 0 means never. A pull of 60 GB may take hours, and the
	// conversion after it prints nothing: only a standstill tells a hang.
	Stall time.Duration
	// Progress is a counter that moves while the command gets on, besides its
	// own output and CPU time; nil means none.
	Progress func() int64
	// MaxOutput is how much of the end of each stream is kept; 0 means
	// DefaultMaxOutput.
	MaxOutput int
}

// Result is what a command left.
type Result struct {
	Stdout, Stderr []byte // the last MaxOutput bytes
	ExitCode       int    // -1 when it was ended by a signal or never started
	Duration       time.Duration
}

// Runner runs commands. It is safe for concurrent use.
type Runner struct {
	dir string // where running groups are noted; "" notes nothing
	log *zap.Logger
	obs Observer

	launch launch
}

// Observer is told of every command that ended. verb is the first argument that
// is no option.
type Observer func(verb string, d time.Duration, err error)

// New returns a Runner that notes running process groups in dir ("" for
// nowhere) and writes one line a command to log.
func New(dir string, log *zap.Logger, obs Observer) *Runner {
	if obs == nil {
		obs = func(string, time.Duration, error) {}
	}
	return &Runner{dir: dir, log: log, obs: obs, launch: thisSystem()}
}

// Run runs c to its end. The error wraps ErrRefused for arguments that it is not run
// with, ErrTimeout or ErrStalled when Run ended
// it, the context's error when the caller went away, and is a plain one when
// the program could not be started. A non-zero exit code is no error of Run.
func (r *Runner) Run(ctx context.Context, c Command) (Result, error) {
	start := time.Now()
	res, err := r.run(ctx, c)
	res.Duration = time.Since(start)
	r.obs(c.Args.Verb(), res.Duration, err)
	fields := []zap.Field{
		zap.String("command", c.Path+" "+c.Args.String()),
		zap.Duration("duration", res.Duration), zap.Int("exit_code", res.ExitCode),
	}
	if err != nil {
		fields = append(fields, zap.Error(err))
	}
	if res.ExitCode != 0 {
		fields = append(fields, zap.String("stderr", LastLine(res.Stderr)))
	}
	r.log.Info("command ended", fields...)
	return res, err
}

func (r *Runner) run(ctx context.Context, c Command) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{ExitCode: -1}, context.Cause(ctx)
	}
	if c.Args.err != nil {
		return Result{ExitCode: -1}, c.Args.err
	}
	limit := c.MaxOutput
	if limit == 0 {
		limit = DefaultMaxOutput
	}
	stdout, stderr := &tail{limit: limit}, &tail{limit: limit}
	cmd, err := start(ctx, func() *exec.Cmd {
		cmd := r.launch.newCommand(c)
		cmd.Env = aroundProxies(cmd.Env)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, stdout, stderr
		cmd.SysProcAttr.Setpgid = true
		cmd.WaitDelay = outputWait
		return cmd
	})
	if err != nil {
		return Result{ExitCode: -1}, err
	}
	pgid := cmd.Process.Pid
	defer r.note(pgid)()

	ended := make(chan error, 1) // one result, so that the goroutine never waits
	go func() { ended <- cmd.Wait() }()
	var cut error
	err, cut = r.watch(ctx, c, pgid, stdout, stderr, ended)
	res := Result{Stdout: stdout.bytes(), Stderr: stderr.bytes(), ExitCode: cmd.ProcessState.ExitCode()}
	if cut != nil {
		return res, cut
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return res, err
}

// aroundProxies adds to an environment that this host is reached without a proxy.
// Started from a shell that names one, the hypervisor's command would otherwise look
// for the loopback registry there.
func aroundProxies(env []string) []string {
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		value := "127.0.0.1,localhost"
		for _, v := range env {
			if before, ok := strings.CutPrefix(v, name+"="); ok && before != "" {
				value = before + "," + value // the last one counts
			}
		}
		env = append(env, name+"="+value)
	}
	return env
}

// start starts a program. One that is being replaced right now is tried again:
// the system refuses to run a file that somebody has open for writing, which
// also a process may that is between its fork and exec.
func start(ctx context.Context, command func() *exec.Cmd) (*exec.Cmd, error) {
	for tries := 0; ; tries++ {
		cmd := command()
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || tries == busyTries {
			return cmd, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(busyPause):
		}
	}
}

// watch waits for the end of the process and brings it about when it is due.
// cut is why.
func (r *Runner) watch(ctx context.Context, c Command, pgid int, stdout, stderr *tail, ended <-chan error) (waitErr, cut error) {
	var timeout <-chan time.Time
	if c.Timeout > 0 {
		t := time.NewTimer(c.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	var check <-chan time.Time
	pause := min(stallCheck, c.Stall/4)
	if c.Stall > 0 {
		t := time.NewTicker(pause)
		defer t.Stop()
		check = t.C
	}
	var mark progressMark
	// The pauses between checks are counted, and not the clock: while the machine
	// or the agent stands still no command gets on, and none hangs.
	still := time.Duration(0)
	for cut == nil {
		select {
		case err := <-ended:
			return err, nil
		case <-ctx.Done():
			cut = context.Cause(ctx)
		case <-timeout:
			cut = fmt.Errorf("%w after %s", ErrTimeout, c.Timeout)
		case <-check:
			if m := readMark(c, pgid, stdout, stderr); m != mark {
				mark, still = m, 0
			} else if still += pause; still >= c.Stall {
				cut = fmt.Errorf("%w for %s", ErrStalled, c.Stall)
			}
		}
	}
	_ = syscall.Kill(-pgid, syscall.SIGTERM)
	select {
	case err := <-ended:
		// Children of a program that went at SIGTERM may have stayed.
		_ = syscall.Kill(-pgid, syscall.SIGKILL)
		return err, cut
	case <-time.After(Grace):
	}
	_ = syscall.Kill(-pgid, syscall.SIGKILL)
	return <-ended, cut
}

// progressMark is everything that moves while a command gets on.
type progressMark struct {
	output, progress int64
	cpu              time.Duration
}

func readMark(c Command, pgid int, stdout, stderr *tail) progressMark {
	m := progressMark{output: stdout.total() + stderr.total(), cpu: groupCPU(pgid)}
	if c.Progress != nil {
		m.progress = c.Progress()
	}
	return m
}

// tail keeps the last limit bytes written to it.
type tail struct {
	limit int

	mu  sync.Mutex
	buf []byte // guarded by mu; up to twice limit
	n   int64  // guarded by mu; bytes ever written
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += int64(len(p))
	t.buf = append(t.buf, p[max(0, len(p)-t.limit):]...)
	if len(t.buf) > 2*t.limit {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf[max(0, len(t.buf)-t.limit):])
}

func (t *tail) total() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// LastLine returns the last line of output that is not blank, at most 300 bytes
// of it.
func LastLine(out []byte) string {
	out = bytes.TrimSpace(out)
	if i := bytes.LastIndexByte(out, '\n'); i >= 0 {
		out = out[i+1:]
	}
	return strings.ToValidUTF8(string(out[:min(len(out), 300)]), "?")
}
