package filter

import (
	"errors"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/clocktest"
)

// What is remembered of a scanner ends when its time is over, however the clock of
// the host was set meanwhile: no scanner is buried early or late, rests for an hour,
// or stays out of rotation although it answers.
func TestClockStepAndScanners(t *testing.T) {
	for _, step := range clocktest.Steps {
		t.Run(step.String(), func(t *testing.T) {
			r := newRig(retryTime, maxWait, &fakeScanner{do: always(refused)})
			defer r.close()
			sc := r.list[0]
			ago := func(d time.Duration) time.Time { return clocktest.BeforeStep(t, time.Now().Add(-d), step) }

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
	for _, step := range clocktest.Steps {
		t.Run(step.String(), func(t *testing.T) {
			r := newRig(retryTime, maxWait, &fakeScanner{do: always(refused)})
			defer r.close()
			again := &tryAgain{failure{CauseUnavailable, refused}}
			for waited, over := range map[time.Duration]bool{retryTime - time.Second: false, retryTime + time.Second: true} {
				at := clocktest.BeforeStep(t, time.Now().Add(-waited), step)
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
