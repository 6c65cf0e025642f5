package filter

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// A scanner that refuses gets no message while another one works, only probes; and
// its share from the first probe on that is answered.
func TestRefusingScannerIsOutOfRotation(t *testing.T) {
	for _, away := range []time.Duration{time.Second, retryTime - time.Second, 10 * retryTime} {
		synctest.Test(t, func(t *testing.T) {
			f := [2]*fakeScanner{new(fakeScanner), {do: after(10*time.Millisecond, nil)}}
			r := newRig(retryTime, maxWait, f[0].until(away, refused), f[1])
			defer r.close()
			if failed := r.stream(t, 10*time.Millisecond, away); failed != 0 {
				t.Errorf("%d messages failed", failed)
			}
			if n, _ := f[0].asked(); n != 1 {
				t.Errorf("away for %v: it was asked %d times", away, n)
			}
			time.Sleep(probeInterval)
			before, _ := f[1].asked()
			if failed := r.stream(t, 100*time.Millisecond, 10*time.Second); failed != 0 {
				t.Errorf("%d messages failed", failed)
			}
			first, probes := f[0].asked()
			second, _ := f[1].asked()
			if first-1 != 50 || second-before != 50 {
				t.Errorf("away for %v: then %d and %d messages", away, first-1, second-before)
			}
			if least, most := int(away/probeInterval), int(2*away/probeInterval)+6; probes < least || probes > most {
				t.Errorf("away for %v: %d probes, want %d to %d", away, probes, least, most)
			}
			for line, want := range map[string]int{"level=WARN": 1, "level=INFO": 1, "level=ERROR": int(min(away/retryTime, 1))} {
				if n := len(r.logged.lines(line, "scanner=unix:/scanner1")); n != want {
					t.Errorf("away for %v: %d lines of %s, want %d: %s", away, n, line, want, r.logged)
				}
			}
			if n := len(r.logged.lines("scanner2")); n != 0 {
				t.Errorf("log: %s", r.logged)
			}
		})
	}
}

// The waits between probes grow from 50 ms to a second and are spread, so that many
// who lost the same scanner do not ask for it in step.
func TestProbeBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const instances = 20
		var lost [instances]*fakeScanner
		var rigs [instances]*rig
		for i := range rigs {
			lost[i] = &fakeScanner{do: always(refused)}
			rigs[i] = newRig(retryTime, maxWait, lost[i], &fakeScanner{do: always(nil)})
			rigs[i].ask(t.Context())
		}
		time.Sleep(2 * time.Minute)
		lastProbes := make(map[time.Duration]bool)
		for i, r := range rigs {
			r.close()
			last, want := time.Duration(0), minBackOff
			for n, at := range lost[i].probedAt() {
				if gap := at - last; gap < want/2 || gap > want {
					t.Errorf("wait %d is %v, want %v to %v", n+1, gap, want/2, want)
				}
				last, want = at, min(2*want, probeInterval)
			}
			lastProbes[last] = true
		}
		if len(lastProbes) != instances {
			t.Errorf("%d instances probed at %d times", instances, len(lastProbes))
		}
	})
}

// A probe of a host that does not answer ends, and is a refusal.
func TestProbeOfSilentHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client{&ampdp.Client{Network: "tcp", Address: "192.0.2.1:9998", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}}
		start := time.Now()
		err := c.Probe(t.Context())
		var e *ampdp.Error
		if !errors.As(err, &e) || !e.Refused || time.Since(start) != probeTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A probe that takes its time does not make them rarer.
func TestSlowProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused)}, {do: always(nil)}}
		f[0].up = func() bool { time.Sleep(probeTimeout); return false }
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		r.ask(t.Context())
		time.Sleep(time.Minute)
		probes := f[0].probedAt()
		for i, at := range probes[1:] {
			if gap := at - probes[i]; gap != probeTimeout {
				t.Errorf("probe %d came %v after the one before", i+2, gap)
			}
		}
	})
}

// One that answers each probe and refuses each message does not get them all, and
// does not fill the log.
func TestScannerThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused), up: func() bool { return true }}, {do: after(time.Second, nil)}}
		r := newRig(retryTime, maxWait, f[:]...)
		defer r.close()
		if failed := r.stream(t, 10*time.Millisecond, time.Minute); failed != 0 {
			t.Errorf("%d messages failed", failed)
		}
		if n, _ := f[0].asked(); n < 60 || n > 130 {
			t.Errorf("asked %d times in a minute", n)
		}
		if n := len(r.logged.lines("level=WARN")); n > 130 {
			t.Errorf("%d warnings", n)
		}
		time.Sleep(steadyTime)
		before, _ := f[0].asked()
		for n := before; n == before; n, _ = f[0].asked() {
			r.ask(t.Context())
		}
		time.Sleep(probeInterval)
		refusal := f[0].askedAt()[before]
		for _, at := range f[0].probedAt() {
			if at > refusal {
				if at > refusal+minBackOff {
					t.Errorf("after a steady time it is probed after %v", at-refusal)
				}
				break
			}
		}
	})
}

// What had begun before the scanner refused does not bring it back: it dies, and its
// last connections break, or are answered, one after the other.
func TestDyingScannerIsNotBack(t *testing.T) {
	for name, end := range map[string]error{"hangs up": hungUp, "replies": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := [2]*fakeScanner{new(fakeScanner), {do: after(time.Second, nil)}}
				var began atomic.Int64
				f[0].do = func(context.Context) error {
					if time.Since(f[0].start) >= 10*time.Second {
						return refused
					}
					time.Sleep(10*time.Second - time.Since(f[0].start) + time.Duration(began.Add(1))*time.Second/10)
					return end
				}
				r := newRig(retryTime, maxWait, f[:]...)
				defer r.close()
				if failed := r.stream(t, 20*time.Millisecond, 20*time.Second); failed != 0 {
					t.Errorf("%d messages failed", failed)
				}
				if n := began.Load(); n < 10 {
					t.Fatalf("only %d messages were there when it died", n)
				}
				if n := len(r.logged.lines("scanner=unix:/scanner1")); n != 1 {
					t.Errorf("log: %s", r.logged)
				}
			})
		})
	}
}

// Our own want of descriptors, which a probe meets, kills nobody.
func TestProbesWithoutMeansBuryNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [2]*fakeScanner{{do: always(refused)}, {do: always(nil)}}
		r := newRig(retryTime, maxWait, f[:]...)
		r.list[0].doer = poor{f[0]}
		defer r.close()
		r.ask(t.Context())
		time.Sleep(time.Hour)
		if r.isDead(0) || r.list[0].standing() != outOfRotation {
			t.Errorf("standing %d", r.list[0].standing())
		}
	})
}

// poor is a scanner whose probes have no descriptors.
type poor struct{ *fakeScanner }

func (p poor) Probe(context.Context) error { return noMeans }

// A lone scanner is asked by its messages themselves, not probed, until it is dead.
func TestLoneScannerIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeScanner)
		r := newRig(retryTime, maxWait, f.until(retryTime-time.Second, refused))
		defer r.close()
		if cause, _, _ := r.ask(t.Context()); cause != "" {
			t.Errorf("cause %q", cause)
		}
		time.Sleep(time.Minute)
		if _, probes := f.asked(); probes != 0 {
			t.Errorf("%d probes", probes)
		}
	})
}

// Once it is alive again its messages ask for it, though it refuses them before its
// prober looks again.
func TestLoneScannerIsNotProbedAnyLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeScanner{do: always(refused)}
		r := newRig(retryTime, maxWait, f)
		defer r.close()
		r.ask(t.Context())
		r.answered(r.list[0], time.Now())
		r.refused(r.list[0], refused)
		time.Sleep(time.Minute)
		if _, probes := f.asked(); probes > 1 || r.isDead(0) {
			t.Errorf("%d probes, dead %t", probes, r.isDead(0))
		}
	})
}

// close ends the probers of scanners that are out of rotation as well.
func TestCloseEndsAllProbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := [3]*fakeScanner{{do: always(refused)}, {do: always(refused)}, {do: always(nil)}}
		r := newRig(retryTime, maxWait, f[:]...)
		r.ask(t.Context())
		r.ask(t.Context())
		time.Sleep(10 * time.Second)
		start := time.Now()
		r.close()
		if took := time.Since(start); took != 0 {
			t.Errorf("closing took %v", took)
		}
		_, first := f[0].asked()
		_, second := f[1].asked()
		time.Sleep(time.Minute)
		_, firstLater := f[0].asked()
		_, secondLater := f[1].asked()
		r.refused(r.list[2], refused) // too late
		if r.list[2].probing {
			t.Error("a prober was started after the end")
		}
		if first == 0 || second == 0 || first != firstLater || second != secondLater {
			t.Errorf("%d and %d probes, %d and %d after the end", first, second, firstLater-first, secondLater-second)
		}
	})
}

// Where there is a choice a connect may take less time; the administrator's own
// limit counts, and the caller's clients stay as they are.
func TestConnectTimeoutOfSeveral(t *testing.T) {
	one, two, three := &ampdp.Client{Address: "1"}, &ampdp.Client{Address: "2"}, &ampdp.Client{Address: "3", ConnectTimeout: time.Minute}
	if c := clients([]*ampdp.Client{one}); c[0].Client != one {
		t.Errorf("a lone client was changed: %+v", c[0])
	}
	c := clients([]*ampdp.Client{one, two, three})
	for i, want := range []time.Duration{failOverConnectTimeout, failOverConnectTimeout, time.Minute} {
		if c[i].ConnectTimeout != want || c[i].Address != string(rune('1'+i)) {
			t.Errorf("client %d: %+v", i+1, c[i].Client)
		}
	}
	if one.ConnectTimeout != 0 {
		t.Error("the caller's client was changed")
	}
}
