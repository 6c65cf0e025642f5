package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// DrainTime is how long messages may take to finish after TERM or INT: init
	// scripts kill after 10 s.
	DrainTime = 8 * time.Second

	// endGrace is how long Drain may take to return once its context is done.
	endGrace = time.Second

	// signalBuffer is how many signals may wait: more than a hand can send.
	signalBuffer = 8
)

// ErrStopped says that TERM or INT came before there was anything to serve. It has
// an exit code for the process that waits for a detached child; in the
// foreground it is an end that was asked for.
var ErrStopped error = &Error{Code: ExitUnavailable, Err: errors.New("a signal ended the daemon before it served")}

// Why the context of Service.Drain is done.
var (
	ErrDrainTime    = errors.New("the time to finish messages is over")
	ErrSecondSignal = errors.New("a second signal asked to end at once")
)

// Service is a server that ends in an orderly way on signals. Hangup may be nil,
// the rest not.
//
// A second signal has no callback of its own: it ends the context of Drain, which
// must answer what waits before anything is taken from under it.
type Service struct {
	// Serve serves until it fails, or until Drain has ended it.
	Serve func() error

	// Drain stops accepting and lets what is under way finish. It is called once,
	// at the first TERM or INT, and must return soon after ctx is done, which is after
	// DrainTime or at a second signal (context.Cause tells).
	Drain func(ctx context.Context) error

	// Hangup is called at HUP and must return soon.
	Hangup func()

	Log *slog.Logger
}

// NotifySignals starts to catch the signals that [Service.Run] wants, TERM, INT,
// HUP and USR1, and ignores PIPE; stop undoes the former.
func NotifySignals() (signals <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, signalBuffer)
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	return ch, func() { signal.Stop(ch) }
}

// Starting takes a step of the start that may last, with a context that ends at TERM
// or INT, and returns the step's error. After such a signal it is ErrStopped,
// whatever the step returned: it must end soon then.
func Starting(signals <-chan os.Signal, log *slog.Logger, step func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- step(ctx) }()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return ErrStopped
			}
			return err
		case sig := <-signals:
			log.Info("a signal during the start", "signal", sig.String())
			if isEnd(sig) {
				cancel(ErrStopped)
			}
		}
	}
}

// Run serves until Serve returns on its own, and returns its error then, or until
// a signal has ended it. It returns nil after an end that was asked for, even if
// Drain could not finish everything (that is logged), and an error only if Drain
// did not return within a second after its time. Run returns 9 s after the first
// signal at the latest; Serve and Drain may still run then, and it is the caller's
// to end what is left.
func (s *Service) Run(signals <-chan os.Signal) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	for {
		select {
		case err := <-served:
			return err
		case sig := <-signals:
			if isEnd(sig) {
				s.Log.Info("ending: messages under way may finish", "signal", sig.String(), "within", DrainTime)
				return s.end(signals, served)
			}
			s.survive(sig)
		}
	}
}

// end drains, and then waits for Serve to return, which it does soon once Drain
// has ended it.
func (s *Service) end(signals <-chan os.Signal, served <-chan error) error {
	timed, stopTimer := context.WithTimeoutCause(context.Background(), DrainTime, ErrDrainTime)
	defer stopTimer()
	ctx, cancel := context.WithCancelCause(timed)
	defer cancel(nil)
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx) }()

	done := ctx.Done()
	var grace <-chan time.Time
	for {
		select {
		case err := <-drained:
			if err != nil {
				s.Log.Warn("ended before all messages had finished", "error", err)
			}
			if grace == nil {
				grace = time.After(endGrace)
			}
			select {
			case <-served:
			case <-grace:
			}
			return nil
		case sig := <-signals:
			if isEnd(sig) && ctx.Err() == nil {
				cancel(ErrSecondSignal) // before the line, which may have to wait
				s.Log.Warn("ending at once", "signal", sig.String())
			}
		case <-done:
			done, grace = nil, time.After(endGrace)
		case <-grace:
			return failf(ExitSoftware, "the end was not orderly: %w", context.Cause(ctx))
		}
	}
}

// survive deals with a signal that does not end us.
func (s *Service) survive(sig os.Signal) {
	if sig == syscall.SIGHUP && s.Hangup != nil {
		s.Hangup()
		return
	}
	s.Log.Info("signal ignored", "signal", sig.String())
}

func isEnd(sig os.Signal) bool { return sig == syscall.SIGTERM || sig == syscall.SIGINT }
