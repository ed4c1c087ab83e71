package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

// progressEvery is the least time between two progress reports of a stage.
const progressEvery = 2 * time.Second

// refusedPace is that of a report that the cloud refuses.
var refusedPace = backoff.Pace{Min: time.Second, Max: time.Minute}

// Outcome builders; ids and sequence are filled in by finishTask.
func done(vm *controllerapi.VMInfo, script *controllerapi.ScriptResult) controllerapi.ReportRequest {
	return controllerapi.ReportRequest{Phase: controllerapi.PhaseDone, Progress: 1, VM: vm, Script: script}
}

func failed(err error) controllerapi.ReportRequest {
	return controllerapi.ReportRequest{Phase: controllerapi.PhaseFailed, Message: err.Error()}
}

func returned(err error) controllerapi.ReportRequest {
	return controllerapi.ReportRequest{Phase: controllerapi.PhaseReturned, Message: err.Error()}
}

// outcomes ends tasks and reports how they get on and how they ended. It is safe for
// concurrent use.
type outcomes struct {
	cloud   Cloud
	caller  caller
	timeout time.Duration // of a call
	journal *journal
	claims  *claims
	errors  *errorLog
	metrics *metrics
	log     *zap.Logger
}

// finishTask ends the work on a record: the outcome is written down, then reported
// until a controller has acknowledged it. It returns early, with the outcome
// kept, when ctx ends.
func (o *outcomes) finishTask(ctx context.Context, r Record, state State, outcome controllerapi.ReportRequest) {
	current, ok := o.journal.get(r.Task.ID)
	if !ok || current.State == Removing {
		return // it was ended meanwhile, and that wins
	}
	r.State, r.Outcome, r.LastError = state, &outcome, outcome.Message
	outcome.Seq = int64(r.Lives)*seqPerLife + seqPerLife - 1 // after every progress report of this life
	o.metrics.taskEnded(r.Task.Kind, outcome.Phase, time.Since(r.Claimed))
	level := o.log.Info
	if outcome.Phase != controllerapi.PhaseDone {
		level = o.log.Warn
		o.errors.note(string(r.Task.Kind)+" "+string(r.Task.InstanceID), errors.New(outcome.Message))
	}
	level("task ended", zap.String("kind", string(r.Task.Kind)), zap.String("instance_id", string(r.Task.InstanceID)),
		zap.String("phase", string(outcome.Phase)), zap.String("message", outcome.Message), zap.Duration("duration", time.Since(r.Claimed)))
	for n := 0; ; n++ {
		err := o.journal.put(r)
		if err == nil {
			break
		}
		if errors.Is(err, errDiscarded) {
			return
		}
		o.errors.fail(ctx, "journal", err)
		if !retryPace.Wait(ctx, n) {
			return
		}
	}
	o.sendOutcome(ctx, r)
}

// sendOutcome reports the outcome until a controller acknowledges it, then applies the
// reply.
func (o *outcomes) sendOutcome(ctx context.Context, r Record) {
	req := *r.Outcome
	req.NodeID, req.Session, req.TaskID, req.Attempt = o.caller.node, o.caller.session, r.Task.ID, r.Task.Attempt
	for n := 0; ; n++ {
		callCtx, cancel := context.WithTimeout(ctx, o.timeout)
		resp, err := o.cloud.Report(callCtx, req)
		cancel()
		if err == nil {
			o.acknowledged(r, resp.Abandon)
			return
		}
		wait := retryPace.Next(n)
		if refused, ok := controllerapi.Answered(err); ok && refused.Status < 500 && !errors.Is(err, controllerapi.ErrUnknownNode) {
			// The same words will be refused again; what may change is the cloud.
			wait = refusedPace.Limit(n)
		}
		if n == 0 || n%20 == 0 {
			o.errors.fail(ctx, "report a task's end", err)
		}
		if !backoff.Sleep(ctx, wait) {
			return
		}
	}
}

// resendOutcome delivers an outcome that an earlier run of the agent could not.
func (o *outcomes) resendOutcome(ctx context.Context, id controllerapi.TaskID) {
	if r, ok := o.journal.get(id); ok && r.Outcome != nil {
		o.sendOutcome(ctx, r)
	}
}

func (o *outcomes) acknowledged(r Record, abandon bool) {
	current, ok := o.journal.get(r.Task.ID)
	if !ok || current.State == Removing {
		return
	}
	switch {
	case abandon && r.Task.Kind == controllerapi.TaskStart:
		o.log.Info("task abandoned", zap.String("instance_id", string(r.Task.InstanceID)))
		o.claims.discard(r.Task.ID, errAbandoned)
	case current.State == Reporting || abandon:
		o.journal.drop(r.Task.ID)
	default:
		current.Outcome = nil
		if err := o.journal.put(current); err != nil {
			o.log.Warn("journal", zap.Error(err)) // it is reported once more after a restart
		}
	}
}

// progress reports how a task gets on, without ever holding it up.
type progress struct {
	o      *outcomes
	r      Record
	cancel context.CancelCauseFunc // of the task
	stop   context.CancelFunc      // of the reports
	done   chan struct{}
	wake   wakeup // the stage changed

	mu       sync.Mutex
	stage    string  // guarded by mu
	fraction float64 // guarded by mu
}

// reportProgress begins to report; end must be called. The context that it
// returns is cancelled when the cloud says to abandon the task.
func (o *outcomes) reportProgress(ctx context.Context, r Record) (context.Context, *progress) {
	ctx, cancel := context.WithCancelCause(ctx)
	reporting, stop := context.WithCancel(ctx)
	p := &progress{o: o, r: r, cancel: cancel, stop: stop, done: make(chan struct{}), wake: newWakeup()}
	o.claims.workers.group.Go(func() { p.run(reporting) })
	return ctx, p
}

func (p *progress) set(stage string, fraction float64) {
	p.mu.Lock()
	changed := p.stage != stage
	p.stage, p.fraction = stage, min(max(fraction, 0), 1)
	p.mu.Unlock()
	if changed {
		p.wake.wake()
	}
}

// end stops reporting and waits until no report is under way, so that the
// outcome comes last.
func (p *progress) end() {
	p.stop()
	<-p.done
	p.cancel(nil)
}

func (p *progress) run(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	seq := int64(p.r.Lives) * seqPerLife
	var toldStage string
	told := -1.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-tick.C:
		}
		p.mu.Lock()
		stage, fraction := p.stage, p.fraction
		p.mu.Unlock()
		if stage == "" || stage == toldStage && fraction == told {
			continue
		}
		seq++
		callCtx, cancelCall := context.WithTimeout(ctx, p.o.timeout)
		resp, err := p.o.cloud.Report(callCtx, controllerapi.ReportRequest{
			NodeID: p.o.caller.node, Session: p.o.caller.session, TaskID: p.r.Task.ID, Attempt: p.r.Task.Attempt, Seq: seq,
			Phase: controllerapi.PhaseProgress, Stage: stage, Progress: fraction,
		})
		cancelCall()
		if err != nil {
			continue // the next tick reports what is true then
		}
		toldStage, told = stage, fraction
		if resp.Abandon {
			p.o.claims.discard(p.r.Task.ID, errAbandoned)
			p.cancel(errAbandoned)
			return
		}
	}
}
