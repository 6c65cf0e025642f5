package filter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// slowly refuses after a connect timeout, as a host does that is down.
func slowly(connectTimeout time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(connectTimeout); return refused }
}

// A host that is down costs only the first messages their time while another
// scanner works: no message of them ever retries for its whole retry time.
func TestRefusingScannerDiesWhileAnotherWorks(t *testing.T) {
	for _, c := range []struct {
		name               string
		retryTime, maxWait time.Duration
		messages           int // that the dead host delays
	}{
		{"defaults", retryTime, maxWait, 4}, // the first refusal comes at 10 s, the one of 30 s of refusing at 40 s
		{"just not at the third", 20*time.Second + 1, maxWait, 4},
		{"just at the third", 20 * time.Second, maxWait, 3},
		{"a shorter longest wait", retryTime, 20 * time.Second, 3},
		{"no retry time", 0, maxWait, 1},
		{"no wait", retryTime, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const connectTimeout = 10 * time.Second
				f := [2]*fakeScanner{{do: slowly(connectTimeout)}, {do: always(nil)}}
				r := newRig(c.retryTime, c.maxWait, f[:]...)
				defer r.close()
				for i := range 10 {
					want := connectTimeout
					if i >= c.messages {
						want = 0
					}
					if cause, took, err := r.ask(t.Context()); cause != "" || took != want {
						t.Errorf("message %d: %q (%v) after %v, want it after %v", i+1, cause, err, took, want)
					}
				}
				if n := len(r.logged.lines("level=ERROR", "scanner=unix:/scanner1")); n != 1 {
					t.Errorf("%d errors in the log: %s", n, r.logged)
				}
			})
		})
	}
}

// A scanner that answers now and then does not die, however often it refuses.
func TestAnswersKeepAScannerAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := [2]*fakeScanner{{do: func(context.Context) error {
			if n++; n%10 == 0 {
				return nil
			}
			return refused
		}}, {do: always(nil)}}
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

// A scanner that nobody needs to ask is not buried for a refusal of long ago.
func TestScannerThatIsNotAskedIsNotBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: inTurn(refused, nil)}, {do: always(refused)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		r.ask(t.Context()) // both refuse once
		time.Sleep(time.Hour)
		r.ask(t.Context())
		if r.list[1].isDead() {
			t.Errorf("dead: %s", r.logged)
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
		if last := f[0].tries[len(f[0].tries)-1]; last > retryTime {
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
		if cause := <-first; cause != CauseUnavailable || !r.list[0].isDead() || !r.list[1].isDead() {
			t.Fatalf("the first: %q", cause)
		}
		f[1].change(always(nil), nil) // back, and the prober is no help
		if cause := <-second; cause != "" {
			t.Errorf("the second: %q", cause)
		}
		if !r.list[0].isDead() || r.list[1].isDead() {
			t.Error("the wrong scanner counts as dead")
		}
	})
}
