package filter

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// blackHole is a host that does not answer a connect, as ampdp.Client tells it.
func blackHole(ctx context.Context) error {
	timer := time.NewTimer(failOverConnectTimeout)
	defer timer.Stop()
	select {
	case <-timer.C:
		return refused
	case <-ctx.Done():
		return &ampdp.Error{Cause: ampdp.CauseUnavailable, Err: ctx.Err()}
	}
}

// Hosts that do not answer are passed over within one message's time, and only the
// first message spends it. If none answers the time of a message begins with the
// first that did not, and ends with the round that is under way.
func TestFailOverBudget(t *testing.T) {
	const round = 4 * failOverConnectTimeout
	for _, c := range []struct {
		name               string
		retryTime, maxWait time.Duration
		deadline           time.Duration
		lastWorks          bool
		cause              Cause
		least, most        time.Duration
	}{
		{"the last one works", retryTime, maxWait, time.Hour, true, "", 12 * time.Second, 12 * time.Second},
		{"no retry time", 0, maxWait, time.Hour, true, "", 12 * time.Second, 12 * time.Second},
		{"no wait", retryTime, 0, time.Hour, true, "", 12 * time.Second, 12 * time.Second},
		{"just within the deadline", retryTime, maxWait, 12*time.Second + 1, true, "", 12 * time.Second, 12 * time.Second},
		{"not within the deadline", retryTime, maxWait, 11 * time.Second, true, CauseUnavailable, 11 * time.Second, 11 * time.Second},
		{"none works", retryTime, maxWait, time.Hour, false, CauseUnavailable, failOverConnectTimeout + retryTime, failOverConnectTimeout + retryTime + round},
		{"none works, no retry time", 0, maxWait, time.Hour, false, CauseUnavailable, round, round},
		{"none works, a shorter longest wait", retryTime, 20 * time.Second, time.Hour, false, CauseUnavailable, failOverConnectTimeout + 20*time.Second, failOverConnectTimeout + 20*time.Second + round},
		{"none works, deadline", retryTime, maxWait, 25 * time.Second, false, CauseUnavailable, 25 * time.Second, 25 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := [4]*fakeScanner{{do: blackHole}, {do: blackHole}, {do: blackHole}, {do: blackHole}}
				if c.lastWorks {
					f[3].do = always(nil)
				}
				r := newRig(c.retryTime, c.maxWait, f[:]...)
				defer r.close()
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				defer cancel()
				if cause, took, err := r.ask(ctx); cause != c.cause || took < c.least || took > c.most {
					t.Errorf("%q (%v) after %v, want %q after %v to %v", cause, err, took, c.cause, c.least, c.most)
				}
				r.checkIdle(t)
				if c.lastWorks && c.cause == "" {
					if cause, took, err := r.ask(t.Context()); cause != "" || took != 0 {
						t.Errorf("the next message: %q (%v) after %v", cause, err, took)
					}
				}
			})
		})
	}
}

// When all are dead mail fails at once, and the first that is back takes it.
func TestAllDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [3]*fakeScanner{{do: always(refused)}, {do: always(refused)}, {do: always(refused)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		if cause, took, _ := r.ask(t.Context()); cause != CauseUnavailable || took != retryTime {
			t.Errorf("first message: %q after %v", cause, took)
		}
		time.Sleep(probeInterval)
		if n := len(r.logged.lines("level=ERROR")); n != 3 {
			t.Errorf("%d errors: %s", n, r.logged)
		}
		if cause, took, err := r.ask(t.Context()); cause != CauseUnavailable || took != 0 || !errors.Is(err, errAllDead) {
			t.Errorf("later message: %q (%v) after %v", cause, err, took)
		}
		f[1].change(always(nil), func() bool { return true })
		time.Sleep(probeInterval)
		first, _ := f[0].asked()
		third, _ := f[2].asked()
		for range 10 {
			if cause, took, err := r.ask(t.Context()); cause != "" || took != 0 {
				t.Errorf("one is back: %q (%v) after %v", cause, err, took)
			}
		}
		firstLater, _ := f[0].asked()
		thirdLater, _ := f[2].asked()
		if firstLater != first || thirdLater != third {
			t.Error("a dead one was asked")
		}
	})
}

// Messages in the hands of a scanner that dies go to the other one at once, each with
// a clean directory, unless delivery is in amavisd's care.
func TestDeathInMidScan(t *testing.T) {
	for _, careOf := range []string{"", ampdp.CareOfServer} {
		synctest.Test(t, func(t *testing.T) {
			f := [2]*fakeScanner{new(fakeScanner), {do: after(10*time.Second, nil)}}
			f[0].do = func(context.Context) error {
				if left := 5*time.Second - time.Since(f[0].start); left > 0 {
					time.Sleep(left)
					return hungUp
				}
				return refused
			}
			r := newRig(retryTime, maxWait, f[:]...)
			defer r.close()
			r.careOf = careOf
			var kept, moved, failed atomic.Int64
			var messages sync.WaitGroup
			for range 100 {
				messages.Go(func() {
					switch cause, took, err := r.ask(t.Context()); {
					case cause == "" && took == 10*time.Second:
						kept.Add(1)
					case cause == "" && took == 15*time.Second:
						moved.Add(1)
					case cause == causeDelivered && took == 5*time.Second:
						failed.Add(1)
					default:
						t.Errorf("%q (%v) after %v", cause, err, took)
					}
				})
			}
			messages.Wait()
			r.checkIdle(t)
			wantMoved, wantFailed := int64(50), int64(0)
			if careOf == ampdp.CareOfServer {
				wantMoved, wantFailed = 0, 50
			}
			if kept.Load() != 50 || moved.Load() != wantMoved || failed.Load() != wantFailed || r.cleans.Load() != wantMoved {
				t.Errorf("care of %q: %d kept, %d moved, %d failed, %d cleaned", careOf, kept.Load(), moved.Load(), failed.Load(), r.cleans.Load())
			}
		})
	}
}

// The last of the four requests goes to a scanner that has not dropped the message
// yet, however busy it is.
func TestLastRequestGoesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [4]*fakeScanner{{do: always(hungUp)}, {do: always(hungUp)}, {do: always(nil)}, {do: always(hungUp)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		r.list[2].load = 5
		if cause, took, err := r.ask(t.Context()); cause != "" || took != retryTime {
			t.Errorf("%q (%v) after %v", cause, err, took)
		}
	})
}

// poisonous marks the context of a message that kills whoever reads it.
type poisonous struct{}

// A message that kills every scanner fails after four times; the others wait until one
// is back. Only who was with a scanner each time that it died can fail as well.
func TestPoisonousMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const restart = 5 * time.Second
		const poisoned = 10 * time.Second // when that message comes
		var kills atomic.Int64
		var f [2]*fakeScanner
		for i := range f {
			f[i] = new(fakeScanner)
			var mu sync.Mutex
			back := time.Now()
			up := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return !time.Now().Before(back)
			}
			f[i].up = up
			f[i].do = func(ctx context.Context) error {
				if !up() {
					return refused
				}
				time.Sleep(time.Second)
				if ctx.Value(poisonous{}) != nil {
					mu.Lock()
					back = time.Now().Add(restart)
					mu.Unlock()
					kills.Add(1)
				}
				if !up() {
					return hungUp
				}
				return nil
			}
		}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(poisoned)
			if cause, _, err := r.ask(context.WithValue(t.Context(), poisonous{}, true)); cause != CauseUnavailable {
				t.Errorf("the poisonous one: %q (%v)", cause, err)
			}
		}()
		var messages sync.WaitGroup
		for start := time.Now(); time.Since(start) < 2*time.Minute; time.Sleep(100 * time.Millisecond) {
			messages.Go(func() {
				came := time.Since(start)
				cause, took, err := r.ask(t.Context())
				if cause != "" && (came < poisoned-time.Second || came > poisoned+time.Second) {
					t.Errorf("the message after %v: %q (%v)", came, cause, err)
				}
				if came < poisoned-time.Second || came > poisoned+time.Minute {
					if took != time.Second {
						t.Errorf("the message after %v took %v", came, took)
					}
				}
			})
		}
		messages.Wait()
		<-done
		r.checkIdle(t)
		if n := kills.Load(); n != maxSends {
			t.Errorf("it killed %d times", n)
		}
	})
}

// However many wait, they share the scanners that come back, and the log stays short.
func TestManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 10_000
		f := [2]*fakeScanner{new(fakeScanner), new(fakeScanner)}
		back := func(f *fakeScanner) *fakeScanner {
			f.until(20*time.Second, refused)
			f.do = func(context.Context) error {
				if time.Since(f.start) < 20*time.Second {
					return refused
				}
				time.Sleep(time.Second)
				return nil
			}
			return f
		}
		r := newRig(retryTime, maxWait, back(f[0]), back(f[1]))
		defer r.close()
		var failed, slowest atomic.Int64
		var all sync.WaitGroup
		for range messages {
			all.Go(func() {
				cause, took, _ := r.ask(t.Context())
				if cause != "" {
					failed.Add(1)
				}
				if took > 20*time.Second+maxBackOff+time.Second {
					slowest.Store(int64(took))
				}
			})
		}
		all.Wait()
		r.checkIdle(t)
		if failed.Load() != 0 || slowest.Load() != 0 {
			t.Errorf("%d failed, one took %v", failed.Load(), time.Duration(slowest.Load()))
		}
		var replies [2]int
		for i := range f {
			for _, at := range f[i].askedAt() {
				if at >= 20*time.Second {
					replies[i]++
				}
			}
		}
		// The one whose return is found first has all for up to a second: two thirds of
		// those who wait for 1 s to 2 s come back in that time.
		if least := messages / 4; replies[0] < least || replies[1] < least || replies[0]+replies[1] != messages {
			t.Errorf("they replied to %d", replies)
		}
		if lines := r.logged.lines("level="); len(lines) != 4 {
			t.Errorf("log: %q", lines)
		}
	})
}
