package filter

import (
	"testing"
	"testing/synctest"
	"time"
)

// A panic in a prober is logged with its stack. The process lives, and the prober goes
// on: the scanner is found when it is back, whether it was dead or one of several.
func TestProberSurvivesPanic(t *testing.T) {
	for _, n := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			var fakes []*fakeScanner
			for range n {
				fakes = append(fakes, &fakeScanner{do: always(refused), up: func() bool { panic("in a probe") }})
			}
			r := newRig(retryTime, maxWait, fakes...)
			defer r.close()
			if cause, _, err := r.ask(t.Context()); cause != CauseUnavailable {
				t.Errorf("%q (%v)", cause, err)
			}
			time.Sleep(10 * time.Second) // fake time
			if lines := len(r.logged.lines("level=ERROR", `panic="in a probe"`, "stage=")); lines < 5*n || lines > 100*n {
				t.Errorf("%d panics in the log", lines)
			}
			if len(r.logged.lines("level=ERROR", "at=", "probeOnce")) == 0 {
				t.Error("the log does not tell where they came from")
			}
			for _, f := range fakes {
				f.change(always(nil), func() bool { return true })
			}
			time.Sleep(3 * probeInterval)
			for i := range n {
				if r.isDead(i) || r.list[i].standing() != inRotation {
					t.Errorf("scanner %d of %d was not found", i+1, n)
				}
			}
			if cause, _, err := r.ask(t.Context()); err != nil {
				t.Errorf("afterwards: %q (%v)", cause, err)
			}
			r.checkIdle(t)
		})
	}
}
