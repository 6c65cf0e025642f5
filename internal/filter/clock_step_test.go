package filter

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// steps are by how much a clock is set: forward and back, as NTP and administrators do.
var steps = []time.Duration{time.Hour, -time.Hour, 20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour}

// beforeStep is a time as it is remembered when the wall clock has been set by step
// since: the reading of the clock that nobody sets is what it was. Package time offers
// no such thing, so this knows what a time.Time is made of, and looks whether that is so.
func beforeStep(t *testing.T, at time.Time, step time.Duration) time.Time {
	t.Helper()
	const nsecBits, hasMonotonic = 30, 1 << 63
	then := at
	wall := (*uint64)(unsafe.Pointer(&then))
	if *wall&hasMonotonic == 0 {
		t.Fatal("a time without a monotonic reading")
	}
	*wall -= uint64(step/time.Second) << nsecBits
	if then.Sub(at) != 0 || then.Round(0).Sub(at.Round(0)) != -step {
		t.Fatalf("a time.Time is not what it was: %v and %v", at, then)
	}
	return then
}

// What is remembered of a scanner ends when its time is over, however the clock of
// the host was set meanwhile: no scanner is buried early or late, rests for an hour,
// or stays out of rotation although it answers.
func TestClockStepAndScanners(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			r := newRig(retryTime, maxWait, &fakeScanner{do: always(refused)})
			defer r.close()
			sc := r.list[0]
			ago := func(d time.Duration) time.Time { return beforeStep(t, time.Now().Add(-d), step) }

			sc.silentSince = ago(retryTime - time.Second)
			r.bury(sc, refused)
			if sc.dead {
				t.Error("buried before its time")
			}
			sc.silentSince = ago(retryTime + time.Second)
			r.bury(sc, refused)
			if !r.isDead(0) {
				t.Error("not buried when its time was over")
			}
			r.answered(sc, time.Now())
			if r.isDead(0) || sc.standing() != inRotation {
				t.Error("it answers, and is not back")
			}

			sc.restUntil = ago(-time.Minute)
			visits := func() []*visit { return []*visit{{scanner: sc}} }
			other := &scanner{name: "other"}
			both := append(visits(), &visit{scanner: other})
			r.list = append(r.list, other)
			if v := r.choose(both, 1); v == nil || v.scanner != other {
				t.Error("one that rests is asked before another")
			}
			sc.restUntil = ago(time.Millisecond)
			other.load = 10
			if v := r.choose(both, 2); v == nil || v.scanner != sc {
				t.Error("one that has rested is not asked")
			}

			sc.failedAt, sc.failures = ago(time.Minute), 3
			if n := r.failed(sc, time.Now().Add(-time.Second)); n != 4 {
				t.Errorf("a failure after others counts as number %d, want 4", n)
			}
			sc.failedAt, sc.failures = ago(time.Second), 3
			if n := r.failed(sc, time.Now().Add(-time.Minute)); n != 0 {
				t.Errorf("one that began before the last counts as number %d", n)
			}
		})
	}
}

// A message waits neither longer nor shorter because the clock was set meanwhile.
func TestClockStepAndWaits(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			r := newRig(retryTime, maxWait, &fakeScanner{do: always(refused)})
			defer r.close()
			again := &tryAgain{failure{CauseUnavailable, refused}}
			for waited, over := range map[time.Duration]bool{retryTime - time.Second: false, retryTime + time.Second: true} {
				at := beforeStep(t, time.Now().Add(-waited), step)
				s := &scan{scanners: r.scanners, req: new(ampdp.Request), log: r.log, wait: r.wait, firstTry: at, firstFailure: at, firstRefusal: at}
				err := s.pause(t.Context(), again, time.Millisecond)
				var f *failure
				if errors.As(err, &f) != over {
					t.Errorf("after %v: %v", waited, err)
				}
				s.sent = maxSends - 1
				if left := s.afterSend(); left > retryTime-waited && left > minBackOff || left < retryTime-waited-time.Second {
					t.Errorf("after %v the last request waits for %v", waited, left)
				}
			}
		})
	}
}
