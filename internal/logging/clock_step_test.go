package logging

import (
	"errors"
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

// Lines go to syslog again when the pause is over, however the clock was set
// meanwhile: an hour without a log would hide what else went wrong.
func TestClockStepAndSyslog(t *testing.T) {
	for _, step := range steps {
		t.Run(step.String(), func(t *testing.T) {
			s, path, _ := newTestSyslog(t)
			s.sink.now = time.Now
			l := listenDatagrams(t, path)
			s.sink.downUntil = beforeStep(t, time.Now().Add(time.Minute), step)
			if err := handle(s, "too early"); !errors.Is(err, errLost) {
				t.Errorf("in the pause: %v", err)
			}
			s.sink.downUntil = beforeStep(t, time.Now(), step)
			if err := handle(s, "back"); err != nil {
				t.Errorf("after the pause: %v", err)
			}
			receive(t, l)
			receive(t, l)
		})
	}
}
