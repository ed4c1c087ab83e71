// Package macreport records what the commands of a real Mac answer, so that
// stand-ins can be made from it: each command line, its exit code, and its output byte
// by byte with personal details replaced.
//
//	r := macreport.New(dir, macreport.Replacements())
//	r.Record(ctx, "list", "anka", "-j", "list", "-a")
//	err := r.Close()
//
// The folder that it writes goes to test/fakeanka/testdata/real/, where the tests
// of the stand-ins compare the shapes of the answers with theirs. Two recordings
// are compared by Differences.
package macreport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// stepTimeout bounds a command; to start a VM or to push one takes minutes.
const stepTimeout = 20 * time.Minute

// Step is one command that was run. Its output is in the files NAME.stdout and
// NAME.stderr beside steps.json.
type Step struct {
	Name     string   `json:"name"`
	Command  []string `json:"command"`
	ExitCode int      `json:"exit_code"`
	Seconds  float64  `json:"seconds"`
	// Error is why the command did not run or was ended, "" when it ran.
	Error string `json:"error,omitempty"`
}

// Recorder writes a report. It is used by one goroutine.
type Recorder struct {
	dir     string
	replace Replacer
	steps   []Step
	// Tell, if set, is called before each command.
	Tell func(name string, command []string)
}

// New returns a recorder that writes into dir, which must not exist.
func New(dir string, replace Replacer) (*Recorder, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return &Recorder{dir: dir, replace: replace}, nil
}

// Record runs a command, stores what it left, and returns what it wrote to stdout,
// unchanged. A command that fails is a result like another; the error is that of
// writing the report, or the context's.
func (r *Recorder) Record(ctx context.Context, name string, argv ...string) ([]byte, error) {
	return r.RecordInput(ctx, "", name, argv...)
}

// RecordInput is Record with a text on stdin.
func (r *Recorder) RecordInput(ctx context.Context, input, name string, argv ...string) ([]byte, error) {
	s := r.Begin(ctx, input, name, argv...)
	<-s.Ended
	return s.stdout.Bytes(), errors.Join(ctx.Err(), s.Record())
}

// Running is a command that stays, such as one that is a VM.
type Running struct {
	// Ended is closed when it has ended.
	Ended <-chan struct{}

	r              *Recorder
	name           string
	argv           []string
	ctx            context.Context
	cancel         context.CancelFunc
	took           time.Duration // valid once it has ended, as err
	err            error
	stdout, stderr bytes.Buffer
}

// Begin starts a command with a text on stdin. The caller calls Record.
func (r *Recorder) Begin(ctx context.Context, input, name string, argv ...string) *Running {
	if r.Tell != nil {
		r.Tell(name, argv)
	}
	ended := make(chan struct{})
	s := &Running{Ended: ended, r: r, name: name, argv: argv}
	s.ctx, s.cancel = context.WithTimeout(ctx, stepTimeout)
	cmd := exec.CommandContext(s.ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader([]byte(input))
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdout, cmd.Stderr = &s.stdout, &s.stderr
	began := time.Now()
	go func() { // Record waits for it
		defer close(ended)
		s.err = cmd.Run()
		s.took = time.Since(began)
	}()
	return s
}

// Record ends the command if it still runs, and stores what it left.
func (s *Running) Record() error {
	why := error(nil)
	select {
	case <-s.Ended:
		why = s.ctx.Err()
	default:
		why = errors.New("it still ran")
	}
	s.cancel()
	<-s.Ended
	r := s.r
	step := Step{Name: fmt.Sprintf("%02d-%s", len(r.steps)+1, s.name), Seconds: s.took.Round(10 * time.Millisecond).Seconds()}
	for _, a := range s.argv {
		step.Command = append(step.Command, r.replace.Text(a))
	}
	step.Command[0] = filepath.Base(s.argv[0])
	var exit *exec.ExitError
	switch {
	case errors.As(s.err, &exit):
		step.ExitCode = exit.ExitCode()
	case s.err != nil:
		step.ExitCode, step.Error = -1, r.replace.Text(s.err.Error())
	}
	if why != nil {
		step.Error = "ended: " + why.Error()
	}
	r.steps = append(r.steps, step)
	return errors.Join(r.Write(step.Name+".stdout", s.stdout.Bytes()), r.Write(step.Name+".stderr", s.stderr.Bytes()))
}

// Write adds a file to the report. An empty one is left out.
func (r *Recorder) Write(name string, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(r.dir, name), []byte(r.replace.Text(string(data))), 0o644)
}

// Steps returns what was recorded so far.
func (r *Recorder) Steps() []Step { return r.steps }

// Close writes the list of steps.
func (r *Recorder) Close() error {
	data, err := json.MarshalIndent(r.steps, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, "steps.json"), append(data, '\n'), 0o644)
}

// Read returns the steps of a report.
func Read(dir string) ([]Step, error) {
	data, err := os.ReadFile(filepath.Join(dir, "steps.json"))
	if err != nil {
		return nil, err
	}
	var steps []Step
	if err := json.Unmarshal(data, &steps); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return steps, nil
}
