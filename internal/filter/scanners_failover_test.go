package filter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A host that is down costs one message its time while another scanner works: it is
// out of rotation at once. Its prober tells when it has refused for the full retry
// time; without one no message ever fails unasked, and so it never counts as dead.
func TestRefusingScannerDiesWhileAnotherWorks(t *testing.T) {
	for _, c := range []struct {
		name               string
		retryTime, maxWait time.Duration
		dead               time.Duration // 0: never
	}{
		{"defaults", retryTime, maxWait, retryTime},
		{"a shorter longest wait", retryTime, 20 * time.Second, 20 * time.Second},
		{"no retry time", 0, maxWait, 0},
		{"no wait", retryTime, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const connectTimeout = 4 * time.Second
				f := [2]*fakeScanner{{do: after(connectTimeout, refused)}, {do: always(nil)}}
				r := newRig(c.retryTime, c.maxWait, f[:]...)
				defer r.close()
				if cause, took, err := r.ask(t.Context()); cause != "" || took != connectTimeout {
					t.Errorf("first message: %q (%v) after %v", cause, err, took)
				}
				out := time.Now()
				for time.Since(out) < time.Hour {
					if cause, took, err := r.ask(t.Context()); cause != "" || took != 0 {
						t.Fatalf("later message: %q (%v) after %v", cause, err, took)
					}
					silent := time.Since(out)
					if r.isDead(0) && (c.dead == 0 || silent < c.dead) || !r.isDead(0) && c.dead > 0 && silent > c.dead+probeInterval {
						t.Fatalf("dead after %v: %t", silent, r.isDead(0))
					}
					time.Sleep(500 * time.Millisecond)
				}
				if n, _ := f[0].asked(); n != 1 {
					t.Errorf("asked %d times", n)
				}
				if n := len(r.logged.lines("level=WARN", "scanner=unix:/scanner1", "mail goes to the others")); n != 1 {
					t.Errorf("%d warnings in the log: %s", n, r.logged)
				}
				if n := len(r.logged.lines("level=ERROR", "scanner=unix:/scanner1")); n != min(1, int(c.dead)) {
					t.Errorf("%d errors in the log: %s", n, r.logged)
				}
			})
		})
	}
}

// A scanner that answers now and then does not die, however often it refuses.
func TestAnswersKeepAScannerAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, probes := 0, 0
		refuses := func(context.Context) error {
			if n++; n%10 == 0 {
				return nil
			}
			return refused
		}
		f := [2]*fakeScanner{{do: refuses, up: func() bool { probes++; return probes%10 == 0 }}, {do: always(nil)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		for range 100 {
			r.ask(t.Context())
			time.Sleep(3 * time.Second)
		}
		if n := len(r.logged.lines("level=ERROR")); n != 0 {
			t.Errorf("it was buried %d times: %s", n, r.logged)
		}
	})
}

// One refusal, and then no mail for long, tells nothing about the time between: the
// next message has its whole retry time where no other scanner helps it.
func TestOldRefusalIsNoDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		gone, leave := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer leave()
		r.ask(gone)
		time.Sleep(time.Hour)
		start := time.Now()
		f.change(func(context.Context) error {
			if time.Since(start) < 10*time.Second {
				return refused
			}
			return nil
		}, nil)
		later := make(chan Cause)
		go func() {
			time.Sleep(5 * time.Second)
			cause, _, _ := r.ask(t.Context())
			later <- cause
		}()
		if cause, took, err := r.ask(t.Context()); cause != "" || took < 10*time.Second {
			t.Errorf("%q (%v) after %v", cause, err, took)
		}
		if cause := <-later; cause != "" {
			t.Errorf("the one after it: %q", cause)
		}
		if n := len(r.logged.lines("level=ERROR")); n != 0 {
			t.Errorf("log: %s", r.logged)
		}
	})
}

// Beside a scanner that works one refusal of long ago is no death: the prober finds
// out that it is over.
func TestOldRefusalBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(nil)}, {do: always(refused), up: func() bool { return true }}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		for range 3 {
			r.ask(t.Context())
			r.ask(t.Context())
			time.Sleep(time.Hour)
		}
		if n := len(r.logged.lines("level=WARN", "scanner2")); n != 3 || r.isDead(1) {
			t.Errorf("dead (%t): %s", r.isDead(1), r.logged)
		}
	})
}

// A message that waits goes to a scanner that comes back, one that counted as dead
// when the message came included.
func TestReturnedScannerTakesWaitingMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused)}, {do: always(refused)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		r.ask(t.Context()) // both are dead
		f[1].change(always(nil), func() bool { return true })
		time.Sleep(2 * probeInterval)
		f[1].change(always(refused), nil) // only the second was back, and goes
		asked, _ := f[0].asked()
		time.AfterFunc(2*time.Second, func() {
			if n, _ := f[0].asked(); n != asked {
				t.Errorf("the dead scanner was asked %d times while the other one lived", n-asked)
			}
			f[0].change(always(nil), func() bool { return true })
		})
		if cause, took, err := r.ask(t.Context()); cause != "" || took > 2*time.Second+probeInterval+maxBackOff {
			t.Errorf("%q (%v) after %v", cause, err, took)
		}
	})
}

// Who waits does not ask a scanner that has died meanwhile, as long as another one
// lives.
func TestScannerThatDiesMeanwhileIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused)}, {do: always(busy)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		time.AfterFunc(retryTime, func() { r.bury(r.list[0], refused) })
		r.ask(t.Context())
		tries := f[0].askedAt()
		if last := tries[len(tries)-1]; last > retryTime {
			t.Errorf("asked after %v", last)
		}
	})
}

// When the last scanner dies, whoever is under way still asks all for the rest of
// its own retry time.
func TestDeathOfAllDoesNotShortenOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused)}, {do: always(refused)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		first, second := make(chan Cause), make(chan Cause)
		go func() { cause, _, _ := r.ask(t.Context()); first <- cause }()
		time.Sleep(15 * time.Second)
		go func() { cause, _, _ := r.ask(t.Context()); second <- cause }()
		if cause := <-first; cause != CauseUnavailable || !r.isDead(0) || !r.isDead(1) {
			t.Fatalf("the first: %q", cause)
		}
		f[1].change(always(nil), nil) // back, and the prober is no help
		if cause := <-second; cause != "" {
			t.Errorf("the second: %q", cause)
		}
		if !r.isDead(0) || r.isDead(1) {
			t.Error("the wrong scanner counts as dead")
		}
	})
}
