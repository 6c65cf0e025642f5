package filter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// After one message has waited for its whole retry time in vain, later ones fail
// at once; a probe every second finds the scanner's return.
func TestDeadScanner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeScanner)
		back := time.Minute + 500*time.Millisecond
		r := newRig(retryTime, maxWait, f.until(back, refused))
		defer r.close()

		if cause, took, _ := r.ask(t.Context()); cause != CauseUnavailable || took != retryTime {
			t.Fatalf("first message: %q after %v", cause, took)
		}
		if n := len(r.logged.lines("level=ERROR", "scanner=unix:/scanner1", "amavisd runs", "refused_for=30s")); n != 1 {
			t.Errorf("%d errors in the log: %s", n, r.logged)
		}
		tries, probes := f.asked()
		if probes != 0 {
			t.Errorf("%d probes within no time", probes)
		}
		for range 1000 {
			if cause, took, err := r.ask(t.Context()); cause != CauseUnavailable || took != 0 || !errors.Is(err, errAllDead) {
				t.Fatalf("later message: %q (%v) after %v", cause, err, took)
			}
		}
		if again, _ := f.asked(); again != tries {
			t.Errorf("a dead scanner was asked %d times", again-tries)
		}

		time.Sleep(back - time.Since(f.start)) // it is back, but nobody knows yet
		// Jittered: one second apart at most, half a second at least.
		if _, probes := f.asked(); probes < 30 || probes > 61 {
			t.Errorf("%d probes in 30.5 s", probes)
		}
		if first := f.probedAt()[0] - retryTime; first < probeInterval/2 {
			t.Errorf("the first probe came %v after the death", first)
		}
		if cause, took, _ := r.ask(t.Context()); cause != CauseUnavailable || took != 0 {
			t.Errorf("before the probe: %q after %v", cause, took)
		}
		time.Sleep(probeInterval)
		if cause, took, err := r.ask(t.Context()); cause != "" || took != 0 {
			t.Errorf("a second after its return: %q (%v) after %v", cause, err, took)
		}
		_, probes = f.asked()
		time.Sleep(time.Minute)
		if _, again := f.asked(); again != probes {
			t.Error("a living scanner is probed")
		}
		if n := len(r.logged.lines("answers again", "scanner=unix:/scanner1")); n != 1 {
			t.Errorf("its return is logged %d times: %s", n, r.logged)
		}
		if n := len(r.logged.lines("level=ERROR")); n != 1 {
			t.Errorf("%d errors in the log: %s", n, r.logged)
		}
	})
}

// A restart within the retry time is one warning and one note, and no failure, for
// however many messages.
func TestScannerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeScanner)
		r := newRig(retryTime, maxWait, f.until(10*time.Second, refused))
		defer r.close()
		results := make(chan string, 50)
		for range 50 {
			go func() {
				cause, took, err := r.ask(t.Context())
				if err != nil || took > 12*time.Second {
					results <- fmt.Sprint(cause, err, took)
				}
				results <- ""
			}()
			time.Sleep(100 * time.Millisecond)
		}
		for range 50 {
			if s := <-results; s != "" {
				t.Error(s)
			}
		}
		if got := r.logged.lines("level="); len(got) != 2 {
			t.Errorf("log: %q", got)
		}
	})
}

// A scanner does not count as dead when the retries were not all refusals, or not
// long enough.
func TestScannerIsNotBuried(t *testing.T) {
	some := func(n int, err error) func(context.Context) error {
		i := 0
		return func(context.Context) error {
			if i++; i == n {
				return err
			}
			return refused
		}
	}
	for _, c := range []struct {
		name               string
		retryTime, maxWait time.Duration
		do                 func(context.Context) error
		dead               bool
	}{
		{"refused all the time", retryTime, maxWait, always(refused), true},
		{"all of a shorter longest wait", retryTime, 5 * time.Second, always(refused), true},
		{"no retry time", 0, maxWait, always(refused), false},
		{"a hang-up among the refusals", retryTime, maxWait, some(3, hungUp), false},
		{"our own lack of descriptors among them", retryTime, maxWait, some(3, noMeans), false},
		{"busy among them", retryTime, maxWait, some(3, busy), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeScanner{do: c.do}
				r := newRig(c.retryTime, c.maxWait, f)
				defer r.close()
				r.ask(t.Context())
				if dead := r.isDead(0); dead != c.dead {
					t.Errorf("dead: %v", dead)
				}
			})
		})
	}
}

// Many who give up at the same time bury a scanner once.
func TestOneBurial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		causes := make(chan Cause)
		for range 20 {
			go func() { cause, _, _ := r.ask(t.Context()); causes <- cause }()
		}
		for range 20 {
			if cause := <-causes; cause != CauseUnavailable {
				t.Errorf("cause %q", cause)
			}
		}
		if n := len(r.logged.lines("level=ERROR")); n != 1 {
			t.Errorf("%d errors in the log: %s", n, r.logged)
		}
		time.Sleep(10*probeInterval + probeInterval/2)
		if _, probes := f.asked(); probes < 10 || probes > 21 { // two probers would make at least 20
			t.Errorf("%d probes in 10.5 s", probes)
		}
	})
}

// Who came before the scanner's death has the whole retry time, and the first who
// gets through brings the scanner back for all.
func TestDeathDoesNotShortenOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeScanner)
		f.until(40*time.Second, refused)
		f.up = func() bool { return false } // the prober is no help
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		first, second := make(chan Cause), make(chan Cause)
		go func() { cause, _, _ := r.ask(t.Context()); first <- cause }()
		time.Sleep(15 * time.Second)
		go func() { cause, _, _ := r.ask(t.Context()); second <- cause }()
		if cause := <-first; cause != CauseUnavailable {
			t.Errorf("the first: %q", cause)
		}
		if !r.isDead(0) {
			t.Fatal("the scanner is not dead")
		}
		if cause := <-second; cause != "" {
			t.Errorf("the second: %q", cause)
		}
		if r.isDead(0) {
			t.Error("a scanner that replied is dead")
		}
		time.Sleep(2 * probeInterval)
		_, probes := f.asked()
		time.Sleep(time.Minute)
		if _, again := f.asked(); again != probes {
			t.Error("the prober goes on")
		}
	})
}

// A message that gives up must not bury a scanner that another one has reached
// meanwhile.
func TestContactPreventsBurial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		time.AfterFunc(10*time.Second, func() { r.answered(r.list[0], time.Now()) })
		r.ask(t.Context())
		if r.isDead(0) {
			t.Error("dead")
		}
	})
}

// A dead scanner is skipped while another one works.
func TestDeadScannerIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused)}, {do: always(refused)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		r.ask(t.Context())
		f[1].change(always(nil), func() bool { return true })
		time.Sleep(probeInterval + time.Nanosecond)
		tries, _ := f[0].asked()
		if cause, took, err := r.ask(t.Context()); cause != "" || took != 0 {
			t.Errorf("%q (%v) after %v", cause, err, took)
		}
		if again, _ := f[0].asked(); again != tries {
			t.Error("the dead one was asked")
		}
	})
}

// close ends the probers at once; the bubble fails the test if one is left.
func TestCloseEndsProbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		r.ask(t.Context())
		time.Sleep(10 * time.Second)
		start := time.Now()
		r.close()
		r.close()
		if time.Since(start) != 0 {
			t.Errorf("closing took %v", time.Since(start))
		}
		// Too late: nobody may start anything now.
		r.answered(r.list[0], time.Now())
		r.refused(r.list[0], refused)
		time.Sleep(retryTime)
		r.bury(r.list[0], refused)
		if r.isDead(0) {
			t.Error("a scanner was buried without a prober")
		}
	})
}

// No burial, whose prober nobody would wait for, happens once close has returned.
func TestBurialMeetsClose(t *testing.T) {
	for range 2000 {
		r := newRig(retryTime, maxWait, new(fakeScanner), new(fakeScanner), new(fakeScanner))
		var burials sync.WaitGroup
		for _, sc := range r.list {
			sc.silentSince = time.Now().Add(-retryTime)
			burials.Go(func() { r.bury(sc, refused) })
		}
		r.close()
		var dead [3]bool
		for i := range r.list {
			dead[i] = r.isDead(i)
		}
		burials.Wait()
		for i := range r.list {
			if r.isDead(i) != dead[i] {
				t.Fatalf("scanner %d was buried after the end", i+1)
			}
		}
	}
}

// A scanner that dies a second time is watched a second time.
func TestSecondDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		for life := range 3 {
			if cause, took, _ := r.ask(t.Context()); cause != CauseUnavailable || took != retryTime || !r.isDead(0) {
				t.Fatalf("life %d: %q after %v", life, cause, took)
			}
			f.change(always(nil), func() bool { return true })
			time.Sleep(2 * probeInterval)
			if cause, took, err := r.ask(t.Context()); cause != "" || took != 0 {
				t.Fatalf("life %d: after its return %q (%v) after %v", life, cause, err, took)
			}
			f.change(always(refused), nil)
		}
		if n := len(r.logged.lines("level=ERROR")); n != 3 {
			t.Errorf("%d burials in the log: %s", n, r.logged)
		}
	})
}

// What shows that somebody is there, and what does not.
func TestSignsOfLife(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		alive bool
	}{
		{"a reply", nil, true},
		{"a malformed reply", malformed, true},
		{"a reply to half a request", halfAsked, true},
		{"busy", busy, true},
		{"hung up after the request", hungUp, true},
		{"no reply in time", timedOut, false},
		{"not read in time", lateRequest, false},
		{"our own lack of descriptors", noMeans, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeScanner{do: always(refused)}
				r := newRig(retryTime, maxWait, f)
				defer r.close()
				r.ask(t.Context())
				if !r.isDead(0) {
					t.Fatal("not dead")
				}
				// As a message does that was under way when the scanner died.
				s := &scan{scanners: r.scanners, req: new(ampdp.Request), clean: func() error { return nil }, log: r.log}
				f.change(always(c.err), nil)
				s.visits = []*visit{{scanner: r.list[0]}}
				s.try(t.Context(), s.choose(s.visits, 1))
				if alive := !r.isDead(0); alive != c.alive {
					t.Errorf("alive: %v", alive)
				}
				want := 0
				if c.alive {
					want = 1
				}
				if n := len(r.logged.lines("answers again")); n != want {
					t.Errorf("its return is logged %d times: %s", n, r.logged)
				}
			})
		})
	}
}

func TestNoScanners(t *testing.T) {
	r := newRig(retryTime, maxWait)
	defer r.close()
	if cause, _, err := r.ask(t.Context()); cause != CauseUnavailable {
		t.Errorf("%q (%v)", cause, err)
	}
}

func TestJitter(t *testing.T) {
	for _, d := range []time.Duration{minBackOff, maxBackOff, 1, 0} {
		for range 1000 {
			if j := jittered(d); j < d/2 || j > d {
				t.Fatalf("%v became %v", d, j)
			}
		}
	}
}

// The real probe: a listening socket is an answer, also one with a full backlog; a
// missing or refusing one is not.
func TestProbe(t *testing.T) {
	server := ampdptest.NewServer(t, ampdptest.Continue())
	c := client{server.Client()}
	if err := c.Probe(t.Context()); err != nil {
		t.Errorf("listening: %v", err)
	}
	server.Kill()
	if err := c.Probe(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refusing: %v", err)
	}
	missing := client{&ampdp.Client{Network: "unix", Address: filepath.Join(t.TempDir(), "no.sock")}}
	if err := missing.Probe(t.Context()); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("missing: %v", err)
	}
	full := client{&ampdp.Client{Network: "unix", Dial: func(context.Context, string, string) (net.Conn, error) { return nil, syscall.EAGAIN }}}
	if err := full.Probe(t.Context()); err != nil {
		t.Errorf("full: %v", err)
	}
}
