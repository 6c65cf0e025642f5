package filter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// fakeScanner is a doer whose answers depend on when it is asked. Its time is that
// of the test's bubble.
type fakeScanner struct {
	start time.Time

	mu     sync.Mutex
	do     func(ctx context.Context) error // nil error: a reply
	up     func() bool                     // for probes; nil: never
	tries  []time.Duration                 // when it was asked, since the start
	probes []time.Duration                 // when it was probed
}

func (f *fakeScanner) Do(ctx context.Context, _ *ampdp.Request) (*ampdp.Reply, error) {
	f.mu.Lock()
	do := f.do
	f.tries = append(f.tries, time.Since(f.start))
	f.mu.Unlock()
	if err := do(ctx); err != nil {
		return nil, err
	}
	return &ampdp.Reply{ReturnValue: ampdp.Continue, LogID: "01234-01"}, nil
}

func (f *fakeScanner) Probe(context.Context) error {
	f.mu.Lock()
	up := f.up
	f.probes = append(f.probes, time.Since(f.start))
	f.mu.Unlock()
	if up != nil && up() {
		return nil
	}
	return refused
}

// asked returns how often the scanner was asked and probed.
func (f *fakeScanner) asked() (tries, probes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tries), len(f.probes)
}

// askedAt returns when it was asked, from its start on.
func (f *fakeScanner) askedAt() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tries)
}

// probedAt returns when it was probed, from its start on.
func (f *fakeScanner) probedAt() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.probes)
}

// change makes it another scanner.
func (f *fakeScanner) change(do func(context.Context) error, up func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do, f.up = do, up
}

// What a scanner does.
var (
	refused   = &ampdp.Error{Cause: ampdp.CauseUnavailable, Refused: true, Err: syscall.ECONNREFUSED}
	hungUp    = &ampdp.Error{Cause: ampdp.CauseUnavailable, RequestSent: true, Err: ampdp.ErrNoReply}
	dropped   = &ampdp.Error{Cause: ampdp.CauseUnavailable, Err: ampdp.ErrNoReply} // before the request was written
	noMeans   = &ampdp.Error{Cause: ampdp.CauseUnavailable, NoMeans: true, Err: syscall.EMFILE}
	busy      = &ampdp.Error{Cause: ampdp.CauseBusy, Err: syscall.EAGAIN}
	timedOut  = &ampdp.Error{Cause: ampdp.CauseTimeout, RequestSent: true, Err: context.DeadlineExceeded}
	malformed = &ampdp.Error{Cause: ampdp.CauseMalformed, RequestSent: true, Err: ampdp.ErrTruncated}
	// The same before the whole request was written.
	lateRequest = &ampdp.Error{Cause: ampdp.CauseTimeout, Err: context.DeadlineExceeded}
	halfAsked   = &ampdp.Error{Cause: ampdp.CauseMalformed, Err: ampdp.ErrMalformed}

	badAsk    = &ampdp.Error{Cause: ampdp.CauseRequest, Err: ampdp.ErrRequestTooLarge}
	canceling = &ampdp.Error{Cause: ampdp.CauseCanceled, Err: context.Canceled}
)

func always(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// after answers after a time.
func after(d time.Duration, err error) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return err }
}

// until answers with err for a while, then with a reply.
func (f *fakeScanner) until(d time.Duration, err error) *fakeScanner {
	f.do = func(context.Context) error {
		if time.Since(f.start) < d {
			return err
		}
		return nil
	}
	f.up = func() bool { return time.Since(f.start) >= d }
	return f
}

// inTurn answers with one error after the other; nil is a reply.
func inTurn(errs ...error) func(context.Context) error {
	i := -1
	return func(context.Context) error { i++; return errs[min(i, len(errs)-1)] }
}

// rig is a set of fake scanners in a bubble.
type rig struct {
	*scanners
	logged *logBuffer
	cleans atomic.Int64
	careOf string
	wait   time.Duration
}

func newRig(retryTime, maxWait time.Duration, fakes ...*fakeScanner) *rig {
	log, logged := newLog(slog.LevelInfo)
	r := &rig{scanners: newScanners(retryTime, maxWait, log), logged: logged, wait: maxWait}
	for i, f := range fakes {
		f.start = time.Now()
		r.add(fmt.Sprintf("unix:/scanner%d", i+1), f)
	}
	return r
}

// isDead returns whether the nth scanner counts as dead.
func (r *rig) isDead(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[n].dead
}

// ask sends one message through and returns the cause of its failure ("" if there
// is none), how long it took, and the error.
func (r *rig) ask(ctx context.Context) (Cause, time.Duration, error) {
	s := &scan{
		scanners: r.scanners, req: &ampdp.Request{DeliveryCareOf: r.careOf},
		clean: func() error { r.cleans.Add(1); return nil }, log: r.log, wait: r.wait,
	}
	start := time.Now()
	reply, err := s.do(ctx)
	var f *failure
	if errors.As(err, &f) {
		return f.cause, time.Since(start), err
	}
	if (reply == nil) == (err == nil) {
		panic("neither or both of reply and error")
	}
	return "", time.Since(start), err
}

const (
	retryTime = 30 * time.Second
	maxWait   = 300 * time.Second
)
