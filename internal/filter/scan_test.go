package filter

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

// One message and one scanner: what comes of it and after how long.
func TestScan(t *testing.T) {
	for _, c := range []struct {
		name     string
		do       func(context.Context) error
		careOf   string
		cause    Cause
		min, max time.Duration
		tries    int // 0: any number
		cleans   int
	}{
		{"a reply", always(nil), "", "", 0, 0, 1, 0},
		{"refused for the whole retry time", always(refused), "", CauseUnavailable, retryTime, retryTime, 0, 0},
		{"refused once", inTurn(refused, nil), "", "", minBackOff / 2, minBackOff, 2, 0},
		{"our own lack of descriptors", inTurn(noMeans, nil), "", "", minBackOff / 2, minBackOff, 2, 0},
		{"hung up, then a reply", inTurn(hungUp, nil), "", "", minBackOff / 2, minBackOff, 2, 1},
		{"hung up twice", inTurn(hungUp, hungUp, nil), "", "", maxBackOff / 2, minBackOff + maxBackOff, 3, 2},
		{"hung up three times", inTurn(hungUp, hungUp, hungUp, nil), "", "", retryTime, retryTime, 4, 3},
		{"hung up for ever", always(hungUp), "", CauseUnavailable, retryTime, retryTime, maxSends, maxSends - 1},
		{"refusals between do not count as sent", inTurn(hungUp, refused, hungUp, refused, hungUp, refused, nil), "", "", retryTime, retryTime + maxBackOff, 7, 6},
		{"care of the server: sent whole", inTurn(hungUp, nil), ampdp.CareOfServer, causeDelivered, 0, 0, 1, 0},
		{"care of the server: no reply in time", always(timedOut), ampdp.CareOfServer, causeDelivered, 0, 0, 1, 0},
		{"care of the server: not read in time", always(lateRequest), ampdp.CareOfServer, CauseTimeout, 0, 0, 1, 0},
		{"care of the server: malformed", always(malformed), ampdp.CareOfServer, causeDelivered, 0, 0, 1, 0},
		{"care of the server: a reply to half a request", always(halfAsked), ampdp.CareOfServer, CauseMalformed, 0, 0, 1, 0},
		{"care of the server: busy", inTurn(busy, nil), ampdp.CareOfServer, "", 0, minBackOff, 2, 0},
		{"care of the server: refused", inTurn(refused, nil), ampdp.CareOfServer, "", 0, minBackOff, 2, 0},
		{"busy for ever", always(busy), "", CauseBusy, maxWait, maxWait, 0, 0},
		{"busy for a while", inTurn(busy, busy, busy, nil), "", "", 0, time.Second, 4, 0},
		{"no reply in time", always(timedOut), "", CauseTimeout, 0, 0, 1, 0},
		{"malformed", always(malformed), "", CauseMalformed, 0, 0, 1, 0},
		{"no request can be made", always(badAsk), "", causeRequest, 0, 0, 1, 0},
		{"an error of another kind", always(errors.New("odd")), "", causeRequest, 0, 0, 1, 0},
		{"cancelled by nobody", always(canceling), "", causeRequest, 0, 0, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeScanner{do: c.do}
				r := newRig(retryTime, maxWait, f)
				defer r.close()
				r.careOf = c.careOf
				cause, took, err := r.ask(t.Context())
				if cause != c.cause || cause == "" && err != nil || took < c.min || took > c.max {
					t.Errorf("cause %q (%v) after %v, want %q after %v to %v", cause, err, took, c.cause, c.min, c.max)
				}
				if n, _ := f.asked(); c.tries != 0 && n != c.tries {
					t.Errorf("%d tries, want %d", n, c.tries)
				}
				if n := r.cleans.Load(); n != int64(c.cleans) {
					t.Errorf("cleaned up %d times, want %d", n, c.cleans)
				}
			})
		})
	}
}

// The waits grow from 50 ms to 2 s, spread by half, and no time is given away.
func TestScanBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		r.ask(t.Context())
		want := minBackOff
		tries := f.askedAt()
		for i := 1; i < len(tries)-1; i++ {
			if d := tries[i] - tries[i-1]; d < want/2 || d > want {
				t.Errorf("wait %d is %v, want %v to %v", i, d, want/2, want)
			}
			want = min(2*want, maxBackOff)
		}
		if n := len(tries); n < 18 || n > 45 {
			t.Errorf("%d tries", n)
		}
		if last := tries[len(tries)-1]; last != retryTime {
			t.Errorf("the last try came after %v", last)
		}
	})
}

// Budgets at their edges: the scanner comes back just in time, just not, and with
// other bounds in force.
func TestScanBudgets(t *testing.T) {
	for _, c := range []struct {
		name               string
		retryTime, maxWait time.Duration
		deadline           time.Duration
		err                error
		back               time.Duration
		cause              Cause
		took               time.Duration
	}{
		{"back at the last moment", retryTime, maxWait, 0, refused, retryTime, "", retryTime},
		{"back too late", retryTime, maxWait, 0, refused, retryTime + 1, CauseUnavailable, retryTime},
		{"no retry", 0, maxWait, 0, refused, time.Nanosecond, CauseUnavailable, 0},
		{"never beyond the longest wait", retryTime, 10 * time.Second, 0, refused, time.Hour, CauseUnavailable, 10 * time.Second},
		{"no wait", retryTime, 0, 0, refused, time.Nanosecond, CauseUnavailable, 0},
		{"never beyond the deadline", retryTime, maxWait, 5 * time.Second, refused, time.Hour, CauseUnavailable, 5 * time.Second},
		{"busy until the last moment", retryTime, maxWait, 0, busy, maxWait, "", maxWait},
		{"busy too long", retryTime, maxWait, 0, busy, maxWait + 1, CauseBusy, maxWait},
		{"busy, no wait", retryTime, 0, 0, busy, time.Hour, CauseBusy, 0},
		{"busy, deadline", retryTime, maxWait, 5 * time.Second, busy, time.Hour, CauseBusy, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := new(fakeScanner)
				r := newRig(c.retryTime, c.maxWait, f.until(c.back, c.err))
				defer r.close()
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				if cause, took, err := r.ask(ctx); cause != c.cause || took != c.took {
					t.Errorf("cause %q (%v) after %v, want %q after %v", cause, err, took, c.cause, c.took)
				}
			})
		})
	}
}

// A scanner that dies after a long scan leaves the whole retry time.
func TestScanTimeSpentScanningIsNoWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeScanner)
		calls := 0
		f.do = func(context.Context) error {
			if calls++; calls == 1 {
				time.Sleep(10 * time.Minute)
				return hungUp
			}
			return refused
		}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		if cause, took, err := r.ask(t.Context()); cause != CauseUnavailable || took != 10*time.Minute+retryTime {
			t.Errorf("cause %q (%v) after %v", cause, err, took)
		}
		if r.isDead(0) {
			t.Error("a scanner that has taken the message counts as dead")
		}
	})
}

// With two idle scanners the first message goes to the first.
func TestScanGoesToTheNextScanner(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second func(context.Context) error
		cause         Cause
		took          time.Duration
		tries         [2]int
	}{
		{"the first is as good as the next", always(nil), always(nil), "", 0, [2]int{1, 0}},
		{"refused: at once", always(refused), always(nil), "", 0, [2]int{1, 1}},
		{"hung up: at once", always(hungUp), always(nil), "", 0, [2]int{1, 1}},
		{"busy: at once", always(busy), always(nil), "", 0, [2]int{1, 1}},
		{"malformed: not", always(malformed), always(nil), CauseMalformed, 0, [2]int{1, 0}},
		{"timeout: not", always(timedOut), always(nil), CauseTimeout, 0, [2]int{1, 0}},
		{"one dead, one busy: busy", always(refused), always(busy), CauseBusy, maxWait, [2]int{}},
		{"one busy, one dead: busy", always(busy), always(refused), CauseBusy, maxWait, [2]int{}},
		{"sends are counted over all", always(hungUp), always(hungUp), CauseUnavailable, retryTime, [2]int{2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := [2]*fakeScanner{{do: c.first}, {do: c.second}}
				r := newRig(retryTime, maxWait, f[:]...)
				defer r.close()
				cause, took, err := r.ask(t.Context())
				if cause != c.cause || c.took >= 0 && took != c.took {
					t.Errorf("cause %q (%v) after %v, want %q after %v", cause, err, took, c.cause, c.took)
				}
				for i := range f {
					if n, _ := f[i].asked(); c.tries != [2]int{} && n != c.tries[i] {
						t.Errorf("scanner %d was asked %d times, want %d", i+1, n, c.tries[i])
					}
				}
			})
		})
	}
}

// One busy scanner makes its whole round busy, in whatever order they are asked: the
// message then has its longest wait. Without a retry time the first round decides.
func TestScanBusyRound(t *testing.T) {
	for name, do := range map[string][2]func(context.Context) error{
		"busy, then one that drops the connection": {always(busy), always(dropped)},
		"one that drops the connection, then busy": {always(dropped), always(busy)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(0, maxWait, &fakeScanner{do: do[0]}, &fakeScanner{do: do[1]})
				defer r.close()
				if cause, took, err := r.ask(t.Context()); cause != CauseBusy || took != maxWait {
					t.Errorf("cause %q (%v) after %v, want %q after %v", cause, err, took, CauseBusy, maxWait)
				}
			})
		})
	}
}

// Who has gone is not waited for.
func TestScanEndsWithItsContext(t *testing.T) {
	for _, cause := range []error{milter.ErrPeerGone, milter.ErrServerClosed} {
		for name, do := range map[string]func(context.Context) error{
			"between tries": always(refused),
			"in a try":      func(ctx context.Context) error { <-ctx.Done(); return canceling },
		} {
			t.Run(name+"/"+cause.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(retryTime, maxWait, &fakeScanner{do: do})
					defer r.close()
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(7*time.Second, func() { cancel(cause) })
					got, took, err := r.ask(ctx)
					if got != "" || !errors.Is(err, cause) || took != 7*time.Second {
						t.Errorf("cause %q, error %v after %v", got, err, took)
					}
				})
			})
		}
	}
}

// TestCrashLoop: a scanner that takes requests and dies over them, but has recovered
// when the retry time is over, has cost nobody a tempfail.
func TestCrashLoop(t *testing.T) {
	for _, down := range []time.Duration{time.Second, 10 * time.Second, retryTime - time.Second} {
		for _, alternate := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), 0
				f := &fakeScanner{do: func(context.Context) error {
					n++
					switch {
					case time.Since(start) >= down:
						return nil
					case alternate && n%2 == 0:
						return refused
					}
					return hungUp
				}}
				r := newRig(retryTime, maxWait, f)
				defer r.close()
				if cause, took, err := r.ask(t.Context()); cause != "" {
					t.Errorf("down for %v (alternating: %t): cause %q (%v) after %v", down, alternate, cause, err, took)
				}
			})
		}
	}
}

// A directory that cannot be cleaned is not scanned again.
func TestScanStopsWhenTheSpoolCannotBeCleaned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(hungUp)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		s := &scan{
			scanners: r.scanners, req: new(ampdp.Request), log: r.log, wait: maxWait,
			clean: func() error { return syscall.EIO },
		}
		_, err := s.do(t.Context())
		if f := asFailure(err); f.cause != CauseSpool || !errors.Is(err, syscall.EIO) {
			t.Errorf("%q: %v", f.cause, err)
		}
		if n, _ := f.asked(); n != 1 {
			t.Errorf("%d tries", n)
		}
	})
}
