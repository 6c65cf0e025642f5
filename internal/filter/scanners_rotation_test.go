package filter

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// checkIdle fails the test if a scanner still has requests to its account.
func (r *rig) checkIdle(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sc := range r.list {
		if sc.load != 0 {
			t.Errorf("%s has %d requests under way in the end", sc.name, sc.load)
		}
	}
}

// stream sends a message at each interval for a while, waits for all, and returns how
// many failed.
func (r *rig) stream(t *testing.T, interval, duration time.Duration) (failed int) {
	var messages sync.WaitGroup
	var mu sync.Mutex
	for start := time.Now(); time.Since(start) < duration; time.Sleep(interval) {
		messages.Go(func() {
			if cause, _, _ := r.ask(t.Context()); cause != "" {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	messages.Wait()
	r.checkIdle(t)
	return failed
}

// Scanners that have nothing to do share the mail evenly, whichever are out.
func TestIdleScannersShareTheMail(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for out := range n {
			t.Run(fmt.Sprintf("%d, %d of them out", n, out), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := make([]*fakeScanner, n)
					for i := range f {
						f[i] = &fakeScanner{do: always(nil)}
					}
					r := newRig(retryTime, maxWait, f...)
					defer r.close()
					for i := range out {
						r.refused(r.list[i*(n-1)%n], refused)
					}
					for range 60 * (n - out) {
						r.ask(t.Context())
					}
					for i := range f {
						want := 60
						if r.list[i].standing() != inRotation {
							want = 0
						}
						if got, _ := f[i].asked(); got != want {
							t.Errorf("scanner %d got %d messages, want %d", i+1, got, want)
						}
					}
				})
			})
		}
	}
}

// A scanner that needs four times as long gets a quarter of the mail.
func TestMailGoesToTheLeastBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: after(4*time.Second, nil)}, {do: after(time.Second, nil)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		var workers sync.WaitGroup
		start := time.Now()
		for range 10 {
			workers.Go(func() {
				for time.Since(start) < 400*time.Second {
					r.ask(t.Context())
				}
			})
		}
		workers.Wait()
		r.checkIdle(t)
		slow, _ := f[0].asked()
		fast, _ := f[1].asked()
		if ratio := float64(fast) / float64(slow); slow < 400 || ratio < 3.5 || ratio > 4.5 {
			t.Errorf("%d and %d messages", slow, fast)
		}
	})
}

// One that never answers gets no more than the other one has to do at a time.
func TestHangingScannerGetsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: after(300*time.Second, timedOut)}, {do: after(time.Second, nil)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		if failed := r.stream(t, 100*time.Millisecond, 290*time.Second); failed > 12 {
			t.Errorf("%d of 2900 messages failed", failed)
		}
		if n, _ := f[0].asked(); n > 12 {
			t.Errorf("it got %d messages", n)
		}
	})
}

// One that fails as soon as it is asked has no load, and would get all the mail. It
// gets one message now and then; and its share as soon as it replies.
func TestFailingScannerGetsLittle(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		failed int // that many at most
	}{
		{"busy", busy, 0}, {"hangs up", hungUp, 0}, {"closes at once", dropped, 0}, {"malformed", malformed, 110},
		{"too late", timedOut, 110},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := [2]*fakeScanner{{do: always(c.err)}, {do: after(time.Second, nil)}}
				r := newRig(retryTime, maxWait, f[:]...)
				defer r.close()
				if failed := r.stream(t, 50*time.Millisecond, 100*time.Second); failed > c.failed {
					t.Errorf("%d messages failed", failed)
				}
				// Seven waits until they are 1 s to 2 s.
				if n, _ := f[0].asked(); n < 50 || n > 110 {
					t.Errorf("it was asked %d times in 100 s", n)
				}
				tries := f[0].askedAt()
				for i := 2; i < len(tries); i++ {
					if gap := tries[i] - tries[i-1]; gap < backOff(i-1)/2 || gap > maxBackOff+100*time.Millisecond {
						t.Errorf("asked %v after failure %d", gap, i)
					}
				}
				if n := len(r.logged.lines("level=WARN", "fails on all", "scanner=unix:/scanner1")); n != 1 {
					t.Errorf("%d warnings: %s", n, r.logged)
				}
				f[0].change(after(time.Second, nil), nil)
				before, _ := f[0].asked()
				time.Sleep(maxBackOff)
				if failed := r.stream(t, 50*time.Millisecond, 100*time.Second); failed > 0 {
					t.Errorf("%d messages failed in the end", failed)
				}
				if n, _ := f[0].asked(); n-before < 900 {
					t.Errorf("it got only %d of 2000 messages once it replied", n-before)
				}
				if n := len(r.logged.lines("level=INFO", "replies again", "scanner=unix:/scanner1")); n != 1 {
					t.Errorf("%d notes: %s", n, r.logged)
				}
			})
		})
	}
}

// A failure in between costs a scanner next to nothing, and many at the same moment
// count as one.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(retryTime, maxWait, new(fakeScanner), new(fakeScanner))
		defer r.close()
		sc := r.list[0]
		began := time.Now()
		time.Sleep(time.Second)
		for range 100 {
			r.rest(sc, began, hungUp)
		}
		if rest := time.Until(sc.restUntil); rest < minBackOff/2 || rest > minBackOff || sc.failures != 1 {
			t.Errorf("%d failures, a rest of %v", sc.failures, rest)
		}
		time.Sleep(time.Second)
		r.rest(sc, time.Now(), hungUp)
		r.replied(sc, time.Now())
		if sc.failures != 0 || time.Until(sc.restUntil) > 0 {
			t.Errorf("after a reply: %d failures, a rest of %v", sc.failures, time.Until(sc.restUntil))
		}
		if r.logged.String() != "" {
			t.Errorf("log: %s", r.logged)
		}
		for range 100 {
			r.rest(sc, time.Now(), hungUp)
		}
		if rest := time.Until(sc.restUntil); rest < maxBackOff/2 || rest > maxBackOff {
			t.Errorf("after 100 failures a rest of %v", rest)
		}
	})
}

// What is not the scanner's doing is not held against it.
func TestNoRestForTheCallersEnd(t *testing.T) {
	for name, do := range map[string]func(ctx context.Context) error{
		"deadline": func(ctx context.Context) error { <-ctx.Done(); return timedOut },
		"no time to connect": func(ctx context.Context) error {
			<-ctx.Done()
			return &ampdp.Error{Cause: ampdp.CauseUnavailable, Err: ctx.Err()}
		},
		"no request": always(badAsk),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := [2]*fakeScanner{{do: do}, {do: do}}
				r := newRig(retryTime, maxWait, f[:]...)
				defer r.close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r.ask(ctx)
				if r.list[0].failures != 0 || r.list[0].standing() != inRotation {
					t.Errorf("%d failures, standing %d", r.list[0].failures, r.list[0].standing())
				}
				if n, _ := f[1].asked(); n != 0 {
					t.Error("another scanner was asked when the time was over")
				}
				r.checkIdle(t)
			})
		})
	}
}

// However a request ends, it is off the scanner's account.
func TestLoadIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: inTurn(hungUp, refused, busy, noMeans, nil, malformed, timedOut, badAsk)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		for range 4 {
			r.ask(t.Context())
		}
		r.checkIdle(t)
		f.change(func(context.Context) error { panic("a defect") }, nil)
		func() {
			defer func() { recover() }()
			r.ask(t.Context())
		}()
		r.checkIdle(t)
		f.change(always(hungUp), nil)
		s := &scan{scanners: r.scanners, req: new(ampdp.Request), log: r.log, wait: maxWait, clean: func() error { return busy }}
		s.do(t.Context())
		r.checkIdle(t)
	})
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 2, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			fakes := make([]*fakeScanner, n)
			for i := range fakes {
				fakes[i] = new(fakeScanner)
			}
			r := newRig(retryTime, maxWait, fakes...)
			defer r.close()
			b.RunParallel(func(pb *testing.PB) {
				visits := make([]*visit, n)
				for i := range visits {
					visits[i] = &visit{scanner: r.list[i]}
				}
				for round := 1; pb.Next(); round++ {
					r.release(r.choose(visits, round).scanner)
				}
			})
		})
	}
}
