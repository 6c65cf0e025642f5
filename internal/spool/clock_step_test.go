package spool

import (
	"os"
	"testing"
	"time"
	"unsafe"
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

// What could not be removed is tried again when its pause is over, and not before,
// however the clock was set meanwhile.
func TestClockStepAndWhatIsLeft(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			work := workDir(t)
			s := open(t, work)
			m := seal(t, create(t, s, "Q"))
			must(t, os.Rename(m.Dir(), work+"/moved"))
			must(t, os.WriteFile(m.Dir(), nil, 0o600))
			if m.Remove() == nil {
				t.Fatal("it could be removed")
			}
			for ago, want := range map[time.Duration]bool{leftPause / 2: false, leftPause: true} {
				s.leftTried = beforeStep(t, time.Now().Add(-ago), step)
				if e, _ := s.pickLeft(); (e != nil) != want {
					t.Errorf("after %v it is tried again: %v, want %v", ago, e != nil, want)
				}
			}
		})
	}
}
