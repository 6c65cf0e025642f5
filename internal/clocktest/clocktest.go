// Package clocktest makes times as they are remembered across a step of the wall clock,
// for tests that nothing is measured by that.
package clocktest

import (
	"testing"
	"time"
	"unsafe"
)

// Steps are by how much a clock is set: forward and back, as NTP and administrators do.
var Steps = []time.Duration{time.Hour, -time.Hour, 20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour}

// BeforeStep is a time as it is remembered when the wall clock has been set by step
// since: the reading of the clock that nobody sets is what it was. Package time offers
// no such thing, so this knows what a time.Time is made of, and looks whether that is so.
func BeforeStep(t *testing.T, at time.Time, step time.Duration) time.Time {
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
