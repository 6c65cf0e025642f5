package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeService is a service whose Serve returns when Drain or End says so.
type fakeService struct {
	Service
	log     bytes.Buffer
	stopped chan error
	drains  atomic.Int32
	hangups atomic.Int32
}

func newFakeService(drain func(ctx context.Context) error) *fakeService {
	f := &fakeService{stopped: make(chan error, 1)}
	f.Service = Service{
		Serve: func() error { return <-f.stopped },
		Drain: func(ctx context.Context) error {
			f.drains.Add(1)
			err := drain(ctx)
			f.stopped <- nil
			return err
		},
		Hangup: func() { f.hangups.Add(1) },
		Log:    slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	return f
}

// timedSignal is sent at a time after the start.
type timedSignal struct {
	at  time.Duration
	sig os.Signal
}

// TestRun: an end is orderly, and the exit code 0, also when Drain uses up what it
// has after its context: a milter server takes up to 0.7 s to tell the MTA, and a
// moment to look for whom.
func TestRun(t *testing.T) {
	const lastAnswers = 800 * time.Millisecond
	quick := func(context.Context) error { return nil }
	obedient := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	busy := func(ctx context.Context) error { // a message that takes 5 s
		select {
		case <-time.After(5 * time.Second):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	last := func(ctx context.Context) error { // the last answers take their time after all of it
		<-ctx.Done()
		time.Sleep(lastAnswers)
		return context.Cause(ctx)
	}
	stuck := func(context.Context) error { time.Sleep(time.Hour); return nil }
	const term, intr, hup, usr1 = syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1
	tests := []struct {
		name    string
		drain   func(context.Context) error
		signals []timedSignal
		took    time.Duration
		failed  error // what Run's error wraps
		hangups int32
		log     string
	}{
		{"TERM", quick, []timedSignal{{1 * time.Second, term}}, time.Second, nil, 0, "ending"},
		{"INT", quick, []timedSignal{{1 * time.Second, intr}}, time.Second, nil, 0, "ending"},
		{"a message finishes", busy, []timedSignal{{0, term}}, 5 * time.Second, nil, 0, "ending"},
		{"a message does not", obedient, []timedSignal{{0, term}}, DrainTime, nil, 0, ErrDrainTime.Error()},
		{"last answers", last, []timedSignal{{0, term}}, DrainTime + lastAnswers, nil, 0, ErrDrainTime.Error()},
		{"last answers after a second signal", last, []timedSignal{{0, term}, {2 * time.Second, term}}, 2*time.Second + lastAnswers, nil, 0, ErrSecondSignal.Error()},
		{"second signal", busy, []timedSignal{{0, term}, {2 * time.Second, intr}}, 2 * time.Second, nil, 0, ErrSecondSignal.Error()},
		{"HUP does not hurry", busy, []timedSignal{{0, term}, {2 * time.Second, hup}}, 5 * time.Second, nil, 0, "ending"},
		{"stuck", stuck, []timedSignal{{0, term}}, DrainTime + endGrace, ErrDrainTime, 0, "ending"},
		{"stuck, second signal", stuck, []timedSignal{{0, term}, {time.Second, term}, {time.Second, term}}, time.Second + endGrace, ErrSecondSignal, 0, "at once"},
		{"HUP and USR1", quick, []timedSignal{{0, hup}, {time.Second, usr1}, {time.Second, hup}, {3 * time.Second, term}}, 3 * time.Second, nil, 2, "user defined signal 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeService(test.drain)
				signals := make(chan os.Signal)
				begin := time.Now()
				for _, s := range test.signals {
					time.AfterFunc(s.at, func() {
						select {
						case signals <- s.sig:
						case <-time.After(time.Minute): // nobody listens any more
						}
					})
				}
				err := f.Run(signals)
				if took := time.Since(begin); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if !errors.Is(err, test.failed) || test.failed == nil && err != nil {
					t.Errorf("got %v, want %v", err, test.failed)
				}
				if drains, hangups := f.drains.Load(), f.hangups.Load(); drains != 1 || hangups != test.hangups {
					t.Errorf("%d drains, %d hangups; want 1, %d", drains, hangups, test.hangups)
				}
				if !strings.Contains(f.log.String(), test.log) {
					t.Errorf("the log lacks %q:\n%s", test.log, &f.log)
				}
				time.Sleep(2 * time.Hour) // of the bubble: all that is stuck ends
			})
		})
	}
}

// TestRunServeFails: a server that ends by itself ends Run with its error.
func TestRunServeFails(t *testing.T) {
	for _, want := range []error{io.ErrUnexpectedEOF, nil} {
		f := newFakeService(nil)
		f.stopped <- want
		if err := f.Run(make(chan os.Signal)); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("got %v, want %v", err, want)
		}
		if f.drains.Load() != 0 {
			t.Error("Drain was called")
		}
	}
}

// TestRunServeStuck: a Serve that does not notice its end does not keep us.
func TestRunServeStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeService(func(context.Context) error { return nil })
		f.Serve = func() error { time.Sleep(time.Hour); return nil }
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		begin := time.Now()
		if err := f.Run(signals); err != nil || time.Since(begin) != endGrace {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		time.Sleep(2 * time.Hour)
	})
}

// slowLog is a log that takes its time for each line.
type slowLog struct{ slog.Handler }

func (slowLog) Enabled(context.Context, slog.Level) bool { return true }

func (slowLog) Handle(context.Context, slog.Record) error { time.Sleep(slowLine); return nil }

const slowLine = 100 * time.Millisecond

// TestRunWithSlowLog: what is told of an end may delay its beginning by a line, and a
// second signal by none.
func TestRunWithSlowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var began, ended time.Duration
		f := newFakeService(func(ctx context.Context) error {
			began = time.Since(begin)
			<-ctx.Done()
			ended = time.Since(begin)
			return context.Cause(ctx)
		})
		f.Log = slog.New(slowLog{})
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGTERM
		time.AfterFunc(time.Second, func() { signals <- syscall.SIGTERM })
		if err := f.Run(signals); err != nil {
			t.Error(err)
		}
		if began != slowLine || ended != time.Second {
			t.Errorf("Drain began after %v and was to end after %v", began, ended)
		}
	})
}

// TestStarting: TERM and INT end a step of the start, other signals do not.
func TestStarting(t *testing.T) {
	failed := errors.New("the step failed")
	waits := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	ends := func(err error) func(context.Context) error {
		return func(context.Context) error { time.Sleep(time.Second); return err }
	}
	deaf := func(context.Context) error { time.Sleep(3 * time.Second); return nil }
	tests := []struct {
		name string
		step func(context.Context) error
		sig  os.Signal
		took time.Duration
		want error
	}{
		{"done", ends(nil), nil, time.Second, nil},
		{"failed", ends(failed), nil, time.Second, failed},
		{"HUP", ends(nil), syscall.SIGHUP, time.Second, nil},
		{"TERM", waits, syscall.SIGTERM, 100 * time.Millisecond, ErrStopped},
		{"INT", waits, syscall.SIGINT, 100 * time.Millisecond, ErrStopped},
		{"TERM, and the step is done all the same", deaf, syscall.SIGTERM, 3 * time.Second, ErrStopped},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, 1)
				if test.sig != nil {
					time.AfterFunc(100*time.Millisecond, func() { signals <- test.sig })
				}
				begin := time.Now()
				err := Starting(signals, slog.New(slog.DiscardHandler), test.step)
				if err != test.want || time.Since(begin) != test.took {
					t.Errorf("got %v after %v, want %v after %v", err, time.Since(begin), test.want, test.took)
				}
			})
		})
	}
	if ExitCode(ErrStopped) != ExitUnavailable {
		t.Errorf("exit code %d", ExitCode(ErrStopped))
	}
}

func TestHangupWithoutCallback(t *testing.T) {
	f := newFakeService(func(context.Context) error { return nil })
	f.Hangup = nil
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	if err := f.Run(signals); err != nil {
		t.Error(err)
	}
	if !strings.Contains(f.log.String(), "hangup") {
		t.Errorf("the log does not mention the signal:\n%s", &f.log)
	}
}

// TestSignalsOfProcess sends real signals to a real daemon with a client that
// keeps it busy.
func TestSignalsOfProcess(t *testing.T) {
	s := startDaemon(t, command(t, install(t, "amavis-milter")))
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo := func(when string) {
		t.Helper()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGPIPE} {
		if err := syscall.Kill(s.PID, sig); err != nil {
			t.Fatal(err)
		}
		echo(sig.String())
	}
	if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket is unlinked", func() bool { _, err := os.Lstat(s.socket); return err != nil })
	echo("draining")
	begin := time.Now()
	endDaemon(t, s.PID, syscall.SIGTERM)
	if took := time.Since(begin); took > DrainTime/2 {
		t.Errorf("the second signal took %v", took)
	}
	gone(t, s.pidFile)
}
